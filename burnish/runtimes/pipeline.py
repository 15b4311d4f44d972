"""Runs the stages of a plan: one after the other for one feed, all at once for many.

Each stage has a worker of its own. A worker has two tasks at most, and as many feeds are on their
way as there is room for them, so that a slow stage holds back those before it and memory stays
bounded. Stages that do not need each other (the towers of a model for texts and images) work on one
feed at once. Results come in the order of the feeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.optimizer.errors import UsageError
from burnish.runtimes import stages
from burnish.runtimes.workers.opening import THREADS, open_workers
from burnish.runtimes.workers.requests import Port, Route, Step
from burnish.runtimes.workers.service import Limits, Service
from burnish.runtimes.workers.worker import Worker

MODEL = "model"
"""The name of the only model of a service."""


class Pipeline(Service):
    """The stages of a folder that `optimize plan -o` wrote; see `interface.Runtime` and `Service`.

    Args:
        folder: with the manifest and the stages.
        provider: of all stages, or of each.
        threads: likewise; 0 for the machine's processors shared among them.
        workers: `threads` or `processes`.
        replicas: workers of each stage; any of them takes a feed on.
        limits: see there.

    Raises:
        InvalidModel: the manifest is none of a pipeline.
        UsageError, UnsupportedModel: see `onnxruntime.Session`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str | Sequence[str] = "cpu",
        threads: int | Sequence[int] = 0,
        workers: str = THREADS,
        replicas: int = 1,
        limits: Limits | None = None,
    ) -> None:
        if replicas < 1:
            raise UsageError("there is no replica to run", hint="replicas=1")
        plan = stages.read(folder)
        openings = plan.openings(provider, threads, workers)
        models = {
            f"{stage.name} {copy + 1}" if replicas > 1 else stage.name: {
                stage.name: opening.row(stage.path)
            }
            for copy in range(replicas)
            for stage, opening in zip(plan.stages, openings, strict=True)
        }
        opened = open_workers(models, workers)
        ports = _ports(opened)
        route = Route(
            tuple(Step(stage.name, stage.inputs, stage.outputs) for stage in plan.stages),
            tuple(ports.get(name, Port(name)) for name in plan.inputs),
            tuple(ports.get(name, Port(name)) for name in plan.outputs),
        )
        super().__init__(opened, {MODEL: route}, limits or Limits())


def _ports(workers: Sequence[Worker]) -> dict[str, Port]:
    """All ports of some workers' models, by name."""
    return {
        port["name"]: Port.of(port)
        for worker in workers
        for facts in worker.facts().values()
        for port in (*facts["inputs"], *facts["outputs"])
    }
