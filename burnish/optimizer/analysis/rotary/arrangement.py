"""Where the last axes of a node's output come from, for operators that only move elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.sizes import Size, Sizes, axes_of, numbers

Indices = npt.NDArray[np.int64]

LARGEST = 1 << 12
"""Elements of the largest trailing axes, together, that are looked at."""


@dataclass(frozen=True)
class Arrangement:
    """The last axes of an output in terms of those of the node's first input.

    Attributes:
        source: for each element of the output's last axes, which of the flattened last axes of the
            input it is.
        tail: how many of the input's axes that are.
        leads: whether the node moves or takes elements along the axes before too.
    """

    source: Indices
    tail: int
    leads: bool = False


def trailing(value: ir.Value | None, tail: int, sizes: Sizes) -> tuple[int, ...] | None:
    """The last `tail` sizes of a value where all are numbers, and few."""
    shape = sizes.shape(value)
    if shape is None or len(shape) < tail:
        return None
    known = [size.number for size in shape[len(shape) - tail :]]
    result = tuple(size for size in known if size is not None)
    small = len(result) == tail and 0 < math.prod(result) <= LARGEST
    return result if small else None


def arrangement(node: ir.Node, output: ir.Value, tail: int, sizes: Sizes) -> Arrangement | None:
    """How a node arranges the last `tail` axes of an output; None where it does not say."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    shape = trailing(output, tail, sizes)
    if rule is None or shape is None or sizes.shape(node.inputs[0]) is None:
        return None
    return rule(node, output, shape, sizes)


def _rank(value: ir.Value | None, sizes: Sizes) -> int:
    return len(sizes.shape(value) or ())


def _all(shape: tuple[int, ...]) -> Indices:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _identity(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    return Arrangement(_all(shape), len(shape))


def _unsqueeze(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    axes, rank = axes_of(node, sizes), _rank(output, sizes)
    if axes is None:
        return None
    inside = sum(axis % rank >= rank - len(shape) for axis in axes)
    return Arrangement(_all(shape), len(shape) - inside)


def _squeeze(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    axes, rank = axes_of(node, sizes), _rank(node.inputs[0], sizes)
    if axes is None:
        return None
    gone = {axis % rank for axis in axes}
    kept = [axis for axis in range(rank) if axis not in gone]
    before = kept[: len(kept) - len(shape)]
    # Axes that go at the border count as trailing ones.
    return Arrangement(_all(shape), rank - (before[-1] + 1 if before else 0))


def _transpose(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    rank, tail = _rank(output, sizes), len(shape)
    order = node.attributes.get_ints("perm", tuple(reversed(range(rank))))
    lead, last = list(order[: rank - tail]), [axis - rank + tail for axis in order[rank - tail :]]
    source = trailing(node.inputs[0], tail, sizes)
    if source is None or min(last, default=0) < 0:
        return None
    return Arrangement(_all(source).transpose(last), tail, lead != sorted(lead))


def _reshape(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    before, after = sizes.shape(node.inputs[0]), sizes.shape(output)
    if before is None or after is None:
        return None
    lead = after[: len(after) - len(shape)]
    for tail in range(len(before) + 1):
        source = trailing(node.inputs[0], tail, sizes)
        rest = before[: len(before) - tail]
        if source is not None and math.prod(source) == math.prod(shape) and _alike(rest, lead):
            while tail < len(before) and len(rest) > len(lead) and rest[-1].number == 1:
                tail, rest = tail + 1, rest[:-1]
            return Arrangement(_all(shape), tail)
    return None


def _alike(first: tuple[Size, ...], second: tuple[Size, ...]) -> bool:
    """Whether two shapes differ in axes of one element only."""
    one = Size.of(1)
    return [size for size in first if size != one] == [size for size in second if size != one]


def _slice(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    rank, tail = _rank(output, sizes), len(shape)
    parts = [numbers(sizes.elements(value)) for value in node.inputs[1:]]
    axes = parts[2] if len(parts) > 2 else list(range(rank))
    source = trailing(node.inputs[0], tail, sizes)
    if axes is None or source is None:
        return None
    cut: list[Any] = [slice(None)] * tail
    inside = [index for index, axis in enumerate(axes) if axis % rank >= rank - tail]
    for index in inside:
        bounds = [part[index] if part is not None else None for part in (*parts[:2], *parts[3:4])]
        if None in bounds:
            return None
        cut[axes[index] % rank - rank + tail] = slice(*bounds)
    return Arrangement(_all(source)[tuple(cut)], tail, len(inside) < len(axes))


def _split(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    rank, tail = _rank(output, sizes), len(shape)
    axis = node.attributes.get_int("axis", 0) % rank - rank + tail
    if axis < 0:
        return Arrangement(_all(shape), tail, True)
    source = trailing(node.inputs[0], tail, sizes)
    parts = [trailing(value, tail, sizes) for value in node.outputs]
    if source is None or None in parts:
        return None
    index = list(node.outputs).index(output)
    start = sum(part[axis] for part in parts[:index] if part is not None)
    return Arrangement(_all(source).take(range(start, start + shape[axis]), axis), tail)


def _gather(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    rank, width = _rank(node.inputs[0], sizes), _rank(node.inputs[1], sizes)
    axis = node.attributes.get_int("axis", 0) % rank
    if rank - axis - 1 >= len(shape):
        return Arrangement(_all(shape), len(shape), True)
    tail = len(shape) - width + 1
    source, places = trailing(node.inputs[0], tail, sizes), sizes.elements(node.inputs[1])
    chosen = numbers(places)
    if source is None or chosen is None or width > 1 or axis < rank - tail:
        return None
    taken = _all(source).take(chosen, axis - rank + tail)
    return Arrangement(taken.reshape(shape), tail)


def _expand(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    before, after = sizes.shape(node.inputs[0]) or (), sizes.shape(output) or ()
    tail = min(len(shape), len(before))
    source = trailing(node.inputs[0], tail, sizes)
    if source is None:
        return None
    alike = _alike(before[: len(before) - tail], after[: len(after) - len(shape)])
    return Arrangement(np.broadcast_to(_all(source), shape), tail, not alike)


def _tile(
    node: ir.Node, output: ir.Value, shape: tuple[int, ...], sizes: Sizes
) -> Arrangement | None:
    tail, repeats = len(shape), numbers(sizes.elements(node.inputs[1]))
    source = trailing(node.inputs[0], tail, sizes)
    if source is None or repeats is None:
        return None
    lead, last = repeats[: len(repeats) - tail], repeats[len(repeats) - tail :]
    return Arrangement(np.tile(_all(source), last), tail, any(count != 1 for count in lead))


Rule = Callable[[ir.Node, ir.Value, tuple[int, ...], Sizes], Arrangement | None]

RULES: dict[str, Rule] = {
    "Identity": _identity,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
}
