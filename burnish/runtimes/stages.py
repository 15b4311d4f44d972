"""What a folder with the stages of a plan tells of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import MANIFEST, PIPELINE
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.workers.opening import Opening


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        name: what errors and health call it.
        path: of its model.
        inputs, outputs: names of what it takes and gives.
    """

    name: str
    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Stages:
    """A plan: its stages, and the names of the whole model's ports."""

    stages: tuple[Stage, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def openings(
        self, provider: str | Sequence[str], threads: int | Sequence[int], workers: str
    ) -> list[Opening]:
        """How each stage is opened; 0 threads are the machine's processors shared among them.

        Raises:
            UsageError: there are more providers or numbers than stages, or fewer.
        """
        count = len(self.stages)
        share = max(1, (os.cpu_count() or 1) // count)
        rows = zip(_each(provider, count), _each(threads, count), strict=True)
        return [Opening(name, number or share, workers) for name, number in rows]


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds stages of a plan."""
    return told_in(folder / MANIFEST).get("task") == PIPELINE


def read(folder: Path) -> Stages:
    """The stages in a folder that `optimize plan -o` wrote.

    Raises:
        InvalidModel: the manifest is none of a pipeline.
    """
    told = told_in(folder / MANIFEST)
    rows = told.get("stages") if told.get("task") == PIPELINE else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidModel("the manifest names no stages", place=MANIFEST)
    inputs, outputs = _names(told, "inputs"), _names(told, "outputs")
    stages = [
        Stage(
            f"stage {index + 1}",
            # A name without folders: nothing outside of the artifact is opened.
            folder / Path(str(row.get("file"))).name,
            _names(row, "inputs"),
            _names(row, "outputs"),
        )
        for index, row in enumerate(rows)
    ]
    return Stages(tuple(stages), inputs, outputs)


def _each(given: Any, count: int) -> list[Any]:
    """One for each stage."""
    if isinstance(given, (str, int)):
        return [given] * count
    if len(given) != count:
        raise UsageError(f"{len(given)} are named for {count} stages", hint="one for each")
    return list(given)


def _names(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The names that a manifest lists under a key."""
    names = told.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidModel(f"the manifest lists no {key}", place=MANIFEST)
    return tuple(names)
