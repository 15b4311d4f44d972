"""`burnish.load(..., ray=ADDRESS)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import PIPELINE, graph_of
from burnish.optimizer.errors import UsageError
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.ray_cluster.connection import Connection
from burnish.runtimes.ray_cluster.replicas import RayReplicas
from burnish.runtimes.ray_cluster.stages import RayPipeline
from burnish.runtimes.stages import is_pipeline


def load(path: Path, *, address: str, provider: str, threads: int, replicas: int) -> Any:
    """Stages of a plan as a `RayPipeline`; else the artifact's graph as `RayReplicas`.

    Args:
        path: an .onnx file, an artifact folder of one graph, or a folder of stages.
        address: see `Connection`.
        provider: of each actor.
        threads: likewise.
        replicas: how many there are; of stages, one.

    Raises:
        UsageError: there is no such cluster, or it has no room.
        BurnishError: the artifact cannot be opened.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider} is not known", hint=", ".join(PROVIDERS))
    staged = is_pipeline(path)
    if staged and replicas != 1:
        raise UsageError(f"a {PIPELINE} runs once on a cluster", hint="replicas=1")
    connection = Connection(address)
    try:
        if staged:
            return RayPipeline(path, connection, provider=provider, threads=threads)
        file = Path(graph_of(str(path)))
        return RayReplicas(file, connection, replicas=replicas, provider=provider, threads=threads)
    except BaseException:
        connection.close()
        raise
