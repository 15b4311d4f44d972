"""Writes selections of tokens into a graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.selection.places import Place
from burnish.optimizer.analysis.selection.selections import Selection
from burnish.optimizer.analysis.sizes import ONE, Shape, Size, Sizes, numbers
from burnish.optimizer.model import add_initializer

Axes = Mapping[Hashable, tuple[ir.Value, int]]
"""An input and its axis for each atom of sizes."""


class Writer:
    """Appends nodes to a graph, which is to be sorted afterwards."""

    def __init__(self, graph: ir.Graph, sizes: Sizes) -> None:
        self._graph, self._sizes = graph, sizes
        self._constants: dict[tuple[int, ...] | int, ir.Value] = {}
        self._taken: dict[tuple[ir.Value, Selection, Place], ir.Value] = {}
        self._positions: dict[Selection, ir.Value] = {}

    def constant(self, numbers: Sequence[int] | int) -> ir.Value:
        """An initializer of integers; the same numbers share one."""
        key = numbers if isinstance(numbers, int) else tuple(numbers)
        if key not in self._constants:
            tensor = ir.tensor(np.array(numbers, np.int64))
            self._constants[key] = add_initializer(self._graph, "numbers", tensor)
        return self._constants[key]

    def shape(self, sizes: Shape, axes: Axes) -> ir.Value:
        """A vector of sizes; each of their atoms is an axis of an input."""
        known = numbers(sizes)
        if known is not None:
            return self.constant(known)
        parts = [self._size(size, axes) for size in sizes]
        return self.op("Concat", parts, parts[0], [len(parts)], axis=0)

    def _size(self, size: Size, axes: Axes) -> ir.Value:
        """One size [1], computed from the axes."""
        products = []
        for atoms, factor in size.terms:
            told = [self._axis(*axes[atom]) for atom in atoms]
            if factor != 1 or not told:
                told.append(self.constant([factor]))
            products.append(self._folded("Mul", told))
        return self._folded("Add", products) if products else self.constant([0])

    def _folded(self, kind: str, parts: list[ir.Value]) -> ir.Value:
        return reduce(lambda one, other: self.op(kind, [one, other], one, [1]), parts)

    def _axis(self, source: ir.Value, axis: int) -> ir.Value:
        """The size of an axis."""
        value = self.op("Shape", [source], None, [1], start=axis, end=axis + 1)
        value.type = ir.TensorType(ir.DataType.INT64)
        return value

    def op(
        self, kind: str, inputs: Sequence[ir.Value | None], like: ir.Value | None = None,
        shape: Sequence[Any] | None = None, **attributes: Any,
    ) -> ir.Value:  # fmt: skip
        """The result of a new node, with the type of `like`."""
        node = ir.node(kind, inputs, attributes)
        value = node.outputs[0]
        if like is not None:
            value.type = like.type
        if shape is not None:
            value.shape = ir.Shape(shape)
        self._graph.append(node)
        return value

    def take(self, value: ir.Value, selection: Selection, place: Place) -> ir.Value:
        """The tokens of a value; the axis stays."""
        key = (value, selection, place)
        if key not in self._taken:
            way = self._by_row if selection.by_row else self._alike
            way = self._anywhere if selection.anywhere else way
            self._taken[key] = way(value, selection, place)
        return self._taken[key]

    def _anywhere(self, value: ir.Value, selection: Selection, place: Place) -> ir.Value:
        """Tokens of any rows, as one row."""
        assert (place.rows, place.axis) == (0, 1)
        found = self.op("GatherND", [value, selection.indices], value)
        shape = [1, None, *list(value.shape)[2:]] if value.shape is not None else None
        return self.op("Unsqueeze", [found, self.constant([0])], value, shape)

    def _alike(self, value: ir.Value, selection: Selection, place: Place) -> ir.Value:
        """The same tokens of all rows."""
        shape = list(value.shape) if value.shape is not None else None
        if shape is not None:
            count = selection.count
            shape[place.axis] = ir.SymbolicDim(None) if count is None else count
        if selection.indices is not None:
            indices = self._positions_of(selection)
            return self.op("Gather", [value, indices], value, shape, axis=place.axis)
        axes = self.constant([place.axis])
        if selection.bound_values is not None:
            first, last, step = selection.bound_values
        else:
            assert selection.bounds is not None
            first, last, step = (self.constant([item]) for item in selection.bounds)
            step = None if selection.bounds[2] == 1 else step
        inputs = [value, first, last, axes, *([step] if step is not None else [])]
        return self.op("Slice", inputs, value, shape)

    def _positions_of(self, selection: Selection) -> ir.Value:
        """The positions as a vector [count], or by row as [batch, 1]."""
        if selection not in self._positions:
            value = selection.indices
            assert value is not None
            rank = len(self._sizes.shape(value) or ())
            if rank < 1 + selection.by_row:
                axes = self.constant([rank])
                value = self.op("Unsqueeze", [value, axes], value)
            if selection.by_row and value.dtype is not ir.DataType.INT64:
                value = self.op("Cast", [value], to=ir.DataType.INT64.value)
                value.type = ir.TensorType(ir.DataType.INT64)
            self._positions[selection] = value
        return self._positions[selection]

    def _by_row(self, value: ir.Value, selection: Selection, place: Place) -> ir.Value:
        """A token of each row, each its own; what is the same for all rows becomes one for each."""
        sizes = list(self._sizes.shape(value) or ())
        rows, axis = place.rows or 0, place.axis
        original = value
        if rows < 0:
            sizes = [ONE] * -rows + sizes
            value = self.op("Unsqueeze", [value, self.constant(range(-rows))], value)
            axis, rows = axis - rows, 0
        between = list(range(1, axis)) if rows == 0 else []
        flat = all(sizes[item] == ONE for item in between)
        order = [rows, axis, *(item for item in range(len(sizes)) if item not in (rows, axis))]
        if between and flat:
            value = self.op("Squeeze", [value, self.constant(between)], value)
        elif order != list(range(len(sizes))):
            value = self.op("Transpose", [value], value, perm=order)
        positions = self._positions_of(selection)
        if place.varies:
            deep = self.op("Unsqueeze", [positions, self.constant([2])], positions)
            value = self.op("GatherND", [value, deep], value, batch_dims=1)
        else:
            value = self.op("Squeeze", [value, self.constant([0])], value)
            value = self.op("Gather", [value, positions], value, axis=0)
        if between and flat:
            value = self.op("Unsqueeze", [value, self.constant(between)], value)
        elif order != list(range(len(sizes))):
            back = [order.index(item) for item in range(len(sizes))]
            value = self.op("Transpose", [value], value, perm=back)
        if original.shape is not None and place.varies:
            shape = list(original.shape)
            shape[place.axis] = 1
            value.shape = ir.Shape(shape)
        return value

    def causal_mask(self, node: ir.Node, selection: Selection, like: ir.Value | None) -> ir.Value:
        """Which keys each selected query of a causal attention sees, joined with its mask `like`.

        [count, keys], or by row [batch, 1, 1, keys], and what the mask has besides.
        """
        keys = node.inputs[1]
        assert keys is not None
        rank = len(self._sizes.shape(keys) or ())
        integer = ir.TensorType(ir.DataType.INT64)
        length = self.op("Shape", [keys], start=rank - 2, end=rank - 1)
        length.type = integer
        scalar = self.op("Squeeze", [length], length)
        counts = [self.constant(item) for item in (0, 1)]
        positions = self.op("Range", [counts[0], scalar, counts[1]], length)
        if selection.by_row:
            place, new = Place(0, -1, varies=False), [1, 3]
            self._sizes.shapes[positions] = (self._sizes.shape(keys) or ())[rank - 2 : rank - 1]
        else:
            place, new = Place(0), [1]
        chosen = self.take(positions, selection, place)
        queries = self.op("Unsqueeze", [chosen, self.constant(new)], length)
        seen = self.op("LessOrEqual", [positions, queries])
        seen.type = ir.TensorType(ir.DataType.BOOL)
        if like is None:
            return seen
        if like.dtype is ir.DataType.BOOL:
            return self.op("And", [seen, like], like)
        assert like.dtype is not None
        hidden = ir.tensor(np.array(-np.inf, like.dtype.numpy()), dtype=like.dtype)
        return self.op("Where", [seen, like, add_initializer(self._graph, "hidden", hidden)], like)


def renamed(value: ir.Value, taken: set[str]) -> None:
    """Give a value that holds fewer tokens than before another name."""
    name, count = f"{value.name}_selected", 1
    while name in taken:
        count += 1
        name = f"{value.name}_selected_{count}"
    taken.add(name)
    value.name = name
