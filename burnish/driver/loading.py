"""What `burnish.load` opens: the kind of runtime that suits what lies at a path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.runtimes.generate import TASKS, open_generator
from burnish.runtimes.pipeline import MODEL, Pipeline
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.replicas import open_replicas
from burnish.runtimes.shards.plan import is_sharded
from burnish.runtimes.stages import is_pipeline
from burnish.runtimes.tasks import open_task
from burnish.runtimes.tensor_parallel import DEFAULT, open_shards
from burnish.runtimes.workers.opening import THREADS, Opening
from burnish.runtimes.workers.service import Limits

AnyPath = str | os.PathLike[str]


def load(
    path: AnyPath | Mapping[str, AnyPath],
    provider: str | Sequence[str],
    threads: int | Sequence[int],
    task: str | None,
    replicas: int,
    serving: dict[str, Any],
) -> Any:
    """See `api.load`; `task` is the name of one, and `serving` holds fields of `api.Serving`."""
    kind = serving.get("workers", THREADS)
    limits = Limits(**{name: value for name, value in serving.items() if name != "workers"})
    if not isinstance(path, Mapping) and is_sharded(Path(path)):
        if task or replicas != 1 or set(serving) - {"workers"}:
            raise UsageError("ranks take feeds, and are there once", hint="workers= alone")
        kind = serving.get("workers", DEFAULT)
        return open_shards(Path(path), provider=provider, threads=threads, workers=kind)
    if not isinstance(path, Mapping) and is_pipeline(Path(path)):
        if task is None:
            return Pipeline(
                Path(path), provider=provider, threads=threads, workers=kind,
                replicas=replicas, limits=limits,
            )  # fmt: skip
        if task not in TASKS:
            raise UsageError(f"stages are not run for {task}", hint="no task, and feeds")
        if replicas != 1 or set(serving) - {"workers"}:
            raise UsageError("stages that generate text are there once", hint="workers= alone")
        return open_generator(Path(path), provider=provider, threads=threads, workers=kind)
    if not isinstance(provider, str) or not isinstance(threads, int):
        raise UsageError("several providers or numbers of threads are for stages of a plan")
    opening = Opening(provider, threads, kind)
    if isinstance(path, Mapping):
        files = {name: Path(file) for name, file in path.items()}
        return open_replicas(files, replicas, opening, limits)
    if Path(path).is_dir() or task:
        if replicas != 1 or serving:
            file = "the file in it" if Path(path).is_dir() else "no task"
            raise UsageError("what answers for a task has one worker", hint=f"{file}, and feeds")
        return open_task(Path(path), provider=provider, threads=threads, task=task)
    if replicas == 1 and not serving:
        return PROVIDERS[provider].open(Path(path), provider=provider, threads=threads)
    return open_replicas({MODEL: Path(path)}, replicas, opening, limits)
