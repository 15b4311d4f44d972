"""What a folder tells of stages that several ranks compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import MANIFEST, PIPELINE
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import InvalidModel


@dataclass(frozen=True)
class Part:
    """A model of a rank.

    Attributes:
        path: its file.
        inputs: names of what it takes.
        outputs: names of what it gives.
        reduce: outputs that ranks add up.
        gather: outputs that ranks put beside each other: axis, and how much each has of it.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reduce: tuple[str, ...] = ()
    gather: Mapping[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A port in parts: the axis, and the first element and end of each rank's part."""

    axis: int
    parts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Stage:
    """A stage and its ranks; one that a single file computes has one rank of one part."""

    name: str
    ranks: tuple[tuple[Part, ...], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    split: Mapping[str, Split]


@dataclass(frozen=True)
class Shards:
    """The stages of a folder, and the ports of the whole model."""

    stages: tuple[Stage, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def is_sharded(folder: Path) -> bool:
    """Whether a folder holds stages of which one at least has several ranks."""
    told = told_in(folder / MANIFEST)
    rows = told.get("stages") if told.get("task") == PIPELINE else None
    return isinstance(rows, list) and any(isinstance(row, dict) and "ranks" in row for row in rows)


def read(folder: Path) -> Shards:
    """The stages in a folder that `optimize plan -o` wrote.

    Raises:
        InvalidModel: the manifest is none of such.
    """
    told = told_in(folder / MANIFEST)
    try:
        stages = tuple(_stage(folder, row, index) for index, row in enumerate(told["stages"]))
        inputs, outputs = _names(told["inputs"]), _names(told["outputs"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise InvalidModel("the manifest names no ranks", place=MANIFEST) from None
    return Shards(stages, inputs, outputs)


def _stage(folder: Path, row: Mapping[str, Any], index: int) -> Stage:
    ports = _names(row["inputs"]), _names(row["outputs"])
    name = f"stage {index + 1}"
    if "ranks" not in row:
        return Stage(name, ((Part(_file(folder, row), *ports),),), *ports, {})
    ranks = tuple(
        tuple(_part(folder, part, len(row["ranks"])) for part in rank["parts"])
        for rank in row["ranks"]
    )
    meetings = {
        tuple((p.reduce, tuple(sorted(p.gather.items()))) for p in parts) for parts in ranks
    }
    if len(meetings) != 1:  # a rank would wait for others forever
        raise ValueError
    split = {
        str(port): Split(int(told["axis"]), tuple((int(a), int(b)) for a, b in told["parts"]))
        for port, told in row.get("split", {}).items()
    }
    if any(len(item.parts) != len(ranks) for item in split.values()):
        raise ValueError
    return Stage(name, ranks, *ports, split)


def _part(folder: Path, row: Mapping[str, Any], ranks: int) -> Part:
    gather = {
        str(name): (int(told["axis"]), tuple(int(size) for size in told["sizes"]))
        for name, told in row.get("gather", {}).items()
    }
    if any(len(sizes) != ranks for _, sizes in gather.values()):
        raise ValueError
    reduce = _names(row.get("reduce", []))
    return Part(_file(folder, row), _names(row["inputs"]), _names(row["outputs"]), reduce, gather)


def _file(folder: Path, row: Mapping[str, Any]) -> Path:
    # A name without folders: nothing outside of the artifact is opened.
    return folder / Path(str(row["file"])).name


def _names(told: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise TypeError
    return tuple(told)
