"""`optimize serve`: an artifact as a service on a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.driver.request import Request, validate_provider
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes import ray_cluster
from burnish.runtimes.requests.opening import ARRAYS


def scale_of(replicas: int, autoscale: str | None) -> tuple[int, int]:
    """The least and the most replicas: as many as asked for, or MIN:MAX.

    Raises:
        UsageError: it is no such range.
    """
    if autoscale is None:
        return replicas, replicas
    found = re.fullmatch(r"(\d{1,6}):(\d{1,6})", autoscale)
    if found is None:
        raise UsageError(f"--autoscale {autoscale} is no MIN:MAX", hint="--autoscale 1:4")
    least, most = int(found[1]), int(found[2])
    if not 0 <= least <= most or not most:
        raise UsageError(f"--autoscale {autoscale}: MIN is at most MAX, which is 1 or more")
    return least, most


def serving(
    request: Request, address: str, say: Callable[[str], None], **wishes: Any
) -> tuple[Any, str]:
    """A service that answers, to be closed; and a command line that asks it something.

    Args:
        request: names the artifact, its task, the provider and threads.
        address: of the cluster; see `ray_cluster.connection`.
        say: told in words what goes on.
        wishes: other fields of `ray_cluster.serving.Wishes`.

    Raises:
        BurnishError: it cannot be served.
    """
    validate_provider(request, auto=False)
    path = Path(request.model)
    if not path.exists():
        raise StorageError("no such file or directory")
    part = ray_cluster.part("serving")
    task = request.task if request.task in (None, ARRAYS) else named(request.task or "").name
    asked = part.Wishes(
        path, provider=request.provider, threads=request.threads, task=task, **wishes
    )
    service = part.Serving(asked, address, say)
    return service, part.curl(service.url, service.facts)
