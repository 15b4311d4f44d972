"""One model several times: each feed goes to whoever is expected to be done with it first.

So a replica that is twice as fast gets twice as many. ONNX Runtime lets other threads go on while
it computes, so that replicas may be threads; processes outlive each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.optimizer.errors import UsageError
from burnish.runtimes.interface import Runtime
from burnish.runtimes.workers.opening import PROCESSES, THREADS, Opening, open_workers, route_of
from burnish.runtimes.workers.service import Limits, Service
from burnish.runtimes.workers.worker import ThreadWorker

__all__ = ["PROCESSES", "THREADS", "Replicas", "open_replicas"]


class Replicas(Service):
    """Runtimes of the same model, each in a thread; see `interface.Runtime` and `Service`.

    Args:
        runtimes: one for each replica, at least one; closed with this.
        limits: see there.
    """

    def __init__(self, runtimes: Sequence[Runtime], limits: Limits | None = None) -> None:
        workers = [
            ThreadWorker(f"replica {index + 1}", {"model": runtime})
            for index, runtime in enumerate(runtimes)
        ]
        if not workers:
            raise UsageError("there is no replica to run", hint="replicas=2")
        super().__init__(workers, {"model": route_of(workers[0], "model")}, limits or Limits())


def open_replicas(models: dict[str, Path], count: int, opening: Opening, limits: Limits) -> Service:
    """Workers that each have all of some models; a request names its model where there are several.

    Args:
        models: files by name.
        count: workers.
        opening: how models are opened.
        limits: see there.

    Raises:
        UsageError: there are no models or no workers, or the provider does not start here.
        UnsupportedModel: the provider does not accept a model.
    """
    if count < 1:
        raise UsageError("there is no replica to run", hint="replicas=2")
    if not models:
        raise UsageError("there is no model to run")
    rows = {name: opening.row(path) for name, path in models.items()}
    names = [f"replica {index + 1}" for index in range(count)]
    workers = open_workers({name: rows for name in names}, opening.workers)
    return Service(workers, {name: route_of(workers[0], name) for name in models}, limits)
