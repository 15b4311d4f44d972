"""What chains of views, transposes, slices and concatenations do to the elements of a value.

A roll is two slices and a concatenation for each axis, a partition into windows a transpose between
two reshapes, a merge of patches eight slices and a concatenation. Where the number of images is
open, each image is treated like every other: all nodes that are passed keep the images apart, in
their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.movement.places import Places
from burnish.optimizer.analysis.movement.slabs import Slabs, slabs_of
from burnish.optimizer.analysis.sizes import Sizes, declared, numbers

VIEWS = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Operators that keep the order of the elements."""

LARGEST = 1 << 22
"""Elements of the largest slab whose elements are followed."""

MOST = 1 << 26
"""Places that are held in memory for all values of a graph together."""


@dataclass(frozen=True)
class Move:
    """How a value is made of elements of another one.

    Attributes:
        source: the value that was computed; the value itself where it is not moved.
        places: of each element of a slab, its place in the source's slab.
        inner: of the source.
        outer: of what is made.
        nodes: that move, in no particular order; views are none.
    """

    source: ir.Value
    places: Places
    inner: Slabs
    outer: Slabs
    nodes: frozenset[ir.Node] = frozenset()


class Moves:
    """The moves of the values of one graph, each found once.

    Args:
        sizes: of the model's values.
        graph: whose nodes are looked at; values of other graphs are computed.
    """

    def __init__(self, sizes: Sizes, graph: ir.Graph) -> None:
        self._sizes = sizes
        self._graph = graph
        self._known: dict[ir.Value, Move | None] = {}
        self._still: dict[int, Places] = {}
        self._held = 0

    def slabs(self, value: ir.Value | None) -> Slabs | None:
        """A value as slabs."""
        return slabs_of(self._sizes.shape(value))

    def numbers(self, value: ir.Value | None) -> list[int]:
        """The elements of a vector of whole numbers that a node which moves is told."""
        found = numbers(self._sizes.elements(value))
        assert found is not None
        return found

    def declared(self, value: ir.Value) -> ir.Shape:
        """The shape of a value that has slabs, as the graph declares it."""
        shape = self._sizes.shape(value)
        assert shape is not None
        return declared(shape)

    def of(self, value: ir.Value) -> Move | None:
        """How a value is made from one that is computed; None where its sizes are not known."""
        if value not in self._known:
            self._known[value] = self._found(value)
        return self._known[value]

    def moved(self, value: ir.Value) -> bool:
        """Whether a value is made by moving elements of another one."""
        move = self.of(value)
        return move is not None and move.source is not value

    def _found(self, value: ir.Value) -> Move | None:
        outer = self.slabs(value)
        if outer is None or outer.count > LARGEST:
            return None
        node = value.producer()
        few = self._held < MOST
        if few and node is not None and node.graph is self._graph and node.domain == "":
            before = self._before(node)
            if before is not None and before.inner.lead == outer.lead:
                found = self._through(node, value, before, outer)
                if found is not None and found.size == outer.count:
                    moving = before.nodes if node.op_type in VIEWS else self._nodes(node)
                    flat = np.ascontiguousarray(found.reshape(-1))
                    self._held += len(flat)
                    return Move(before.source, flat, before.inner, outer, moving)
        if outer.count not in self._still:
            self._still[outer.count] = np.arange(outer.count, dtype=np.int32)
        return Move(value, self._still[outer.count], outer, outer)

    def _before(self, node: ir.Node) -> Move | None:
        """How what a node moves is made."""
        source = node.inputs[0] if node.inputs else None
        known = node.op_type in VIEWS or node.op_type in MOVING
        if source is None or not known or source.const_value is not None:
            return None
        return self.of(source)

    def _nodes(self, node: ir.Node) -> frozenset[ir.Node]:
        """A node that moves, and those before it."""
        parts = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        moves = (self.of(part) for part in parts if part is not None)
        return frozenset({node}).union(*(move.nodes for move in moves if move is not None))

    def _through(self, node: ir.Node, value: ir.Value, before: Move, outer: Slabs) -> Places | None:
        """The places of what a node gives, in any shape."""
        if node.op_type in VIEWS:
            return before.places
        places = before.places.reshape(before.outer.shape)
        axis_0 = not before.outer.open
        if node.op_type == "Split":
            return self._split(node, value, places, whole=axis_0)
        if node.op_type == "Concat":
            return self._concat(node, before, whole=axis_0)
        return MOVING[node.op_type](node, places, self._sizes, axis_0)

    def _split(
        self, node: ir.Node, value: ir.Value, places: Places, *, whole: bool
    ) -> Places | None:
        axis = node.attributes.get_int("axis", 0) % places.ndim
        parts = [self.slabs(item) for item in node.outputs]
        if (axis == 0 and not whole) or any(part is None for part in parts):
            return None
        lengths = [part.shape[axis] for part in parts if part is not None]
        index = node.outputs.index(value)
        start = sum(lengths[:index])
        return places.take(range(start, start + lengths[index]), axis)

    def _concat(self, node: ir.Node, first: Move, *, whole: bool) -> Places | None:
        """The parts after each other, where all are made from the same value."""
        axis = node.attributes["axis"].as_int() % len(first.outer.shape)
        moves = [self.of(part) if part is not None else None for part in node.inputs]
        if axis == 0 and not whole:
            return None
        parts = []
        for move in moves:
            if move is None or move.source is not first.source:
                return None
            parts.append(move.places.reshape(move.outer.shape))
        return np.concatenate(parts, axis)


def _transpose(node: ir.Node, places: Places, sizes: Sizes, whole: bool) -> Places | None:
    order = node.attributes.get_ints("perm", tuple(reversed(range(places.ndim))))
    return places.transpose(order) if whole or order[0] == 0 else None


def _slice(node: ir.Node, places: Places, sizes: Sizes, whole: bool) -> Places | None:
    if len(node.inputs) < 3:  # attributes, before operator set 10
        return None
    starts, ends = (numbers(sizes.elements(value)) for value in node.inputs[1:3])
    if starts is None or ends is None:
        return None
    count = len(starts)
    axes, steps = list(range(count)), [1] * count
    for index, default in ((3, axes), (4, steps)):
        given = optional(node, index)
        if given is not None:
            known = numbers(sizes.elements(given))
            if known is None:
                return None
            default[:] = known
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= places.ndim
        if axis == 0 and not whole:
            return None
        # Past the beginning, where counting from the end would start again.
        stop = None if step < 0 and end < -places.shape[axis] else end
        places = places[(slice(None),) * axis + (slice(start, stop, step),)]
    return places


def _gather(node: ir.Node, places: Places, sizes: Sizes, whole: bool) -> Places | None:
    tensor = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
    axis = node.attributes.get_int("axis", 0) % places.ndim
    if tensor is None or (axis == 0 and not whole):
        return None
    return places.take(tensor.numpy(), axis)


MOVING: dict[str, Callable[[ir.Node, Places, Sizes, bool], Places | None]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "Split": lambda node, places, sizes, whole: None,
    "Concat": lambda node, places, sizes, whole: None,
}
"""Operators that move elements, and how; the last two have more than one value at an end."""
