"""Runs the stages of a plan: one after the other for one feed, all at once for many.

Each stage has a worker of its own. A worker has two tasks at most, and as many feeds are on their
way as there is room for them, so that a slow stage holds back those before it and memory stays
bounded. Stages that do not need each other (the towers of a model for texts and images) work on one
feed at once. Results come in the order of the feeds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import MANIFEST, PIPELINE
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.workers.opening import THREADS, Opening, open_workers
from burnish.runtimes.workers.requests import Port, Route, Step
from burnish.runtimes.workers.service import Limits, Service
from burnish.runtimes.workers.worker import Worker

MODEL = "model"


class Pipeline(Service):
    """The stages of a folder that `optimize plan -o` wrote; see `interface.Runtime` and `Service`.

    Args:
        folder: with the manifest and the stages.
        provider: of all stages, or of each.
        threads: likewise; 0 for the machine's processors shared among them.
        workers: `threads` or `processes`.
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
        limits: Limits | None = None,
    ) -> None:
        told = told_in(folder / MANIFEST)
        rows = stages_of(folder)
        providers = each(provider, len(rows), "providers")
        counts = each(threads, len(rows), "threads")
        share = max(1, (os.cpu_count() or 1) // len(rows))
        models, steps = {}, []
        for index, row in enumerate(rows):
            opening = Opening(providers[index], counts[index] or share, workers)
            name = f"stage {index + 1}"
            models[name] = {name: opening.row(file_of(folder, row))}
            steps.append(Step(name, names_of(row, "inputs"), names_of(row, "outputs")))
        inputs, outputs = names_of(told, "inputs"), names_of(told, "outputs")
        opened = open_workers(models, workers)
        ports = ports_of(opened)
        route = Route(
            tuple(steps),
            tuple(ports.get(name, Port(name)) for name in inputs),
            tuple(ports.get(name, Port(name)) for name in outputs),
        )
        super().__init__(opened, {MODEL: route}, limits or Limits())


def each(given: Any, count: int, what: str) -> list[Any]:
    """One for each stage; raises UsageError where there are more or fewer."""
    if isinstance(given, (str, int)):
        return [given] * count
    if len(given) != count:
        raise UsageError(f"{len(given)} {what} for {count} stages")
    return list(given)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds stages of a plan."""
    return told_in(folder / MANIFEST).get("task") == PIPELINE


def stages_of(folder: Path) -> list[dict[str, Any]]:
    """What the manifest of a plan tells of each stage.

    Raises:
        InvalidModel: it is none of a plan.
    """
    told = told_in(folder / MANIFEST)
    rows = told.get("stages") if told.get("task") == PIPELINE else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidModel("the manifest names no stages", place=MANIFEST)
    return rows


def file_of(folder: Path, row: Mapping[str, Any]) -> Path:
    """The file of a stage: a name without folders, so that nothing outside is opened."""
    return folder / Path(str(row.get("file"))).name


def names_of(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The names that a manifest lists under a key."""
    names = told.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidModel(f"the manifest lists no {key}", place=MANIFEST)
    return tuple(names)


def ports_of(workers: Sequence[Worker]) -> dict[str, Port]:
    """All ports of some workers' models, by name."""
    return {
        port["name"]: Port.of(port)
        for worker in workers
        for facts in worker.facts().values()
        for port in (*facts["inputs"], *facts["outputs"])
    }
