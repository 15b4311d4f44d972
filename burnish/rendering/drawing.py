"""A plan as a drawing in plain characters: stages as boxes, what travels between them on arrows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from burnish.rendering.report import safe, size
from burnish.rendering.times import seconds

INSIDE = 22
"""Characters between the sides of a box."""

ARROW = 14
"""Characters of an arrow."""

DRAWN = 12
"""Stages up to which all are drawn."""

Lines = list[str]
Stage = dict[str, Any]


def drawing(replicas: Sequence[Sequence[Stage]], width: int) -> Lines:
    """Replicas that are cut alike as one drawing, with their devices below.

    Args:
        replicas: their stages, as the report has them.
        width: characters of a line.
    """
    lines: Lines = []
    slowest = max(max(s["seconds"], s["sends_seconds"]) for item in replicas for s in item)
    alike: dict[object, list[int]] = {}
    for number, stages in enumerate(replicas):
        key = tuple((s["operators"], len(s["devices"]), s["sends_seconds"]) for s in stages)
        alike.setdefault(key, []).append(number)
    for numbers in alike.values():
        if len(replicas) > 1:
            told = ", ".join(str(number + 1) for number in numbers)
            lines.append(f"replica {told}" if len(numbers) == 1 else f"replicas {told}")
        lines += _pipeline(replicas[numbers[0]], width, slowest)
        for number in numbers[1:]:
            homes = " -> ".join(names(stage["devices"], 60) for stage in replicas[number])
            lines.append(_fitting(f"replica {number + 1} on {homes}", width))
    return lines


def names(devices: Sequence[str], most: int) -> str:
    """Names of devices; numbers in a row as a range."""
    if len(devices) == 1:
        return safe(devices[0], most)
    stems = [name.rpartition(":") for name in devices]
    numbers = [int(number) if number.isdigit() else -2 for _, _, number in stems]
    if len({stem for stem, _, _ in stems}) == 1 and all(
        two - one == 1 for one, two in itertools.pairwise(numbers)
    ):
        return safe(f"{devices[0]}-{numbers[-1]}", most)
    return safe(", ".join(devices), most)


def _pipeline(stages: Sequence[Stage], width: int, slowest: float) -> Lines:
    """Boxes in rows; each row after the first begins with an arrow."""
    chosen = list(enumerate(stages))
    left_out = len(stages) - DRAWN
    if left_out > 0:
        chosen = [*chosen[: DRAWN // 2], *chosen[-DRAWN // 2 :]]
    boxes = [_box(number, stage, slowest) for number, stage in chosen]
    each = max(1, (width - INSIDE - 2) // (INSIDE + 2 + ARROW) + 1)
    lines: Lines = []
    for first in range(0, len(boxes), each):
        parts = []
        for place in range(first, min(first + each, len(boxes))):
            if place:
                gap = left_out if left_out > 0 and place == DRAWN // 2 else 0
                parts.append(_arrow(chosen[place - 1][1], len(boxes[place]), gap))
            parts.append(boxes[place])
        lines += ["".join(pieces).rstrip() for pieces in zip(*parts, strict=True)]
    return lines


def _box(number: int, stage: Stage, slowest: float) -> Lines:
    """A stage: its devices, its share of the model, and how busy it is beside the slowest."""
    devices = stage["devices"]
    filled = round((INSIDE - 2) * stage["seconds"] / slowest)
    rows = [
        f"{number + 1} {names(devices, INSIDE - 5)}",
        f"{len(devices)} as one" if len(devices) > 1 else f"{stage['operators']} operators",
        f"{seconds(stage['seconds'])}, {size(stage['memory_bytes'])}",
        "#" * max(filled, 1),
    ]
    edge = "+" + "-" * INSIDE + "+"
    return [edge, *(f"| {safe(row, INSIDE - 2):<{INSIDE - 2}} |" for row in rows), edge]


def _arrow(stage: Stage, height: int, left_out: int) -> Lines:
    """What a stage hands on, and how long that takes."""
    rows = [size(stage["sends_bytes"]), "-" * (ARROW - 3) + ">", seconds(stage["sends_seconds"])]
    if left_out:
        rows = ["...", f"{left_out} more", "..."]
    blank = " " * ARROW
    lines = [blank, *(f"{row:^{ARROW}}" for row in rows)]
    return lines + [blank] * (height - len(lines))


def _fitting(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."
