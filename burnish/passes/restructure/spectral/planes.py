"""Real and imaginary parts of values [..., 2], as values of their own without the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, rank, readers, scalar, written_size
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import lifted
from burnish.optimizer.pruning import idle, prune, take_over
from burnish.passes.restructure.spectral.writer import Writer

Parts = tuple[ir.Value | None, ir.Value | None]
"""The real and the imaginary part; None where that is zero, or nobody reads it."""


@dataclass(frozen=True)
class Taker:
    """A node that reads one part of a value [..., 2].

    Attributes:
        node: the reader.
        part: 0 for the real part, 1 for the imaginary one.
        bare: the value without the last axis that it gives, or None.
        single: the value with a last axis of one element that it gives, or None.
    """

    node: ir.Node
    part: int
    bare: ir.Value | None = None
    single: ir.Value | None = None


def parts_of(source: ir.Value, real: bool, writer: Writer) -> Parts:
    """The parts of a value, taken from what it is put together of where that is known."""
    if real:
        return _bare(lifted(source) or source, writer), None
    joined = made_by(source, "Concat")
    if joined is not None and len(joined.inputs) == 2:
        first, second = joined.inputs
        last = joined.attributes.get_int("axis", 0) in (-1, rank(source) - 1)
        if first is not None and second is not None and last and _is_single(first):
            return _bare(first, writer), _bare(second, writer)
    real_part, imaginary = (
        writer.node("Gather", source, writer.number(part), axis=-1) for part in (0, 1)
    )
    return real_part, imaginary


def _is_single(value: ir.Value) -> bool:
    return rank(value) > 0 and written_size(value, -1) == 1


def _bare(value: ir.Value, writer: Writer) -> ir.Value:
    """A value [..., 1] without its last axis."""
    node = made_by(value, "Unsqueeze")
    if node is not None and node.inputs[0] is not None:
        axis = scalar(node.inputs[1])
        if axis is not None and axis in (-1, rank(node.inputs[0])):
            return node.inputs[0]
    return writer.squeezed(value)


def takers_of(value: ir.Value, sizes: Sizes) -> list[Taker] | None:
    """The readers of a value [..., 2]; None where one needs both parts in one."""
    shape = sizes.shape(value)
    if shape is None or value.is_graph_output():
        return None
    found: list[Taker] = []
    for node in readers(value):
        if not (taken := _taken(node, value, len(shape), sizes)):
            return None
        found += taken
    return found


def _taken(node: ir.Node, value: ir.Value, axes: int, sizes: Sizes) -> list[Taker]:
    if node.domain != "" or node.inputs[0] is not value:
        return []
    last = (-1, axes - 1)
    if node.op_type == "Gather" and node.attributes.get_int("axis", 0) in last:
        part = scalar(node.inputs[1])
        if part not in (0.0, 1.0, -1.0, -2.0):
            return []
        bare = node.inputs[1] is not None and rank(node.inputs[1]) == 0
        output = node.outputs[0]
        return [Taker(node, int(part) % 2, *((output, None) if bare else (None, output)))]
    if node.op_type == "Split" and node.attributes.get_int("axis", 0) in last:
        if len(node.outputs) != 2:
            return []
        return [Taker(node, part, None, output) for part, output in enumerate(node.outputs)]
    if node.op_type == "Slice":
        bounds = [sizes.elements(item) for item in node.inputs[1:]]
        numbers = [item[0].number if item and len(item) == 1 else None for item in bounds]
        first, end, axis, step = (*numbers, *[1] * (4 - len(numbers)))[:4]
        one = end == 1 if first == 0 else first == 1 and (end or 0) >= 2
        if len(numbers) >= 3 and axis in last and step == 1 and one:
            return [Taker(node, int(bool(first)), None, node.outputs[0])]
    return []


def give(takers: Sequence[Taker], parts: Parts, writer: Writer) -> None:
    """Let what the takers give be the parts."""
    for index, part in enumerate(parts):
        mine = [taker for taker in takers if taker.part == index]
        bare = [taker.bare for taker in mine if taker.bare is not None]
        single = [taker.single for taker in mine if taker.single is not None]
        for value in single:
            bare += [node.outputs[0] for node in readers(value) if _squeezes(node, value)]
        assert part is not None or not mine
        if part is not None:
            _stand_for(bare, part, writer)
            left = [value for value in single if not idle(value)]
            if left:
                _stand_for(left, writer.unsqueezed(part), writer)


def _squeezes(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type != "Squeeze" or node.domain != "" or len(node.inputs) < 2:
        return False
    return scalar(node.inputs[1]) in (-1.0, float(rank(value) - 1))


def _stand_for(olds: Sequence[ir.Value], new: ir.Value, writer: Writer) -> None:
    """Let a new value stand for several, of which it takes the name of one."""
    named = False
    for old in sorted(olds, key=lambda value: not value.is_graph_output()):
        if old.is_graph_output() and named:
            take_over(old, writer.node("Identity", new))
        elif not named:
            new.shape = old.shape
            take_over(old, new)
            named = True
        else:
            ir.convenience.replace_all_uses_with(old, new)
            prune([old])
