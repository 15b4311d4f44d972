"""Cosines and sines as `RotaryEmbedding` takes them, made once for all places that share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.rotary.pairs import Factor
from burnish.optimizer.analysis.sizes import Size, Sizes, axes_of, declared
from burnish.optimizer.constants import Constants

ONE = Size.of(1)


@dataclass(frozen=True)
class Table:
    """A factor's table with the axes of the rotated value that its leading axes lie along."""

    value: ir.Value
    tail: int
    axes: tuple[int, ...]

    @classmethod
    def of(cls, factor: Factor, rank: int, sizes: Sizes) -> Table | None:
        """The table behind its Unsqueezes, for a value of `rank` axes; None where it has more."""
        value, tail = factor.table, factor.tail
        count = len(sizes.shape(value) or ()) - tail
        if count > rank - 1:
            return None
        axes = list(range(rank - 1 - count, rank - 1))
        while (node := value.producer()) is not None and node.op_type == "Unsqueeze":
            source, added = node.inputs[0], axes_of(node, sizes)
            if source is None or added is None or node.domain != "":
                break
            total = len(axes) + tail
            gone = {axis % total for axis in added}
            tail -= sum(place >= len(axes) for place in gone)
            axes = [axis for place, axis in enumerate(axes) if place not in gone]
            value = source
        return cls(value, tail, tuple(axes))

    def varying(self, sizes: Sizes) -> dict[int, Size]:
        """Sizes other than 1 by axis of the rotated value."""
        shape = sizes.shape(self.value) or ()
        pairs = zip(self.axes, shape[: len(self.axes)], strict=True)
        return {axis: size for axis, size in pairs if size != ONE}


@dataclass
class Tables:
    """Makes tables of [batch, sequence, width / 2].

    Attributes:
        model: changed in place.
        sizes: of the model, kept up to date.
        order: place of each node that was there before.
    """

    model: ir.Model
    sizes: Sizes
    order: Mapping[ir.Node, int]
    _made: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    _constants: Constants = field(default_factory=Constants)

    def constant(self, *numbers: int) -> ir.Value:
        """A vector of whole numbers."""
        array = np.array(numbers, np.int64)
        return self._constants.of(self.model.graph, "rotary_sizes", array)

    def prepare(
        self, table: Table, factor: Factor, rows: tuple[int, int], source: ir.Value, graph: ir.Graph
    ) -> ir.Value:
        """The factor for a rotation of `source`, whose batch and sequence axes are `rows`."""
        shape = self.sizes.shape(source) or ()
        wanted = tuple(shape[axis] if axis >= 0 else ONE for axis in rows)
        places = tuple(table.axes.index(axis) if axis in table.axes else -1 for axis in rows)
        key = (table.value, factor.columns, factor.negative, places, wanted, graph)
        if key not in self._made:
            self._made[key] = self._make(table, factor, rows, source, graph)
        return self._made[key]

    def _make(
        self, table: Table, factor: Factor, rows: tuple[int, int], source: ir.Value, graph: ir.Graph
    ) -> ir.Value:
        chain = _Chain(self.sizes, table.value, table.value.type or source.type)
        count = len(table.axes)
        if table.tail != 1:
            chain.then("Reshape", self.constant(*[0] * count, -1))
        self._select(chain, factor)
        if factor.negative:
            chain.then("Neg")
        others = [place for place, axis in enumerate(table.axes) if axis not in rows]
        if others:
            chain.then("Squeeze", self.constant(*others))
        missing = [place for place, axis in enumerate(rows) if axis not in table.axes]
        if missing:
            chain.then("Unsqueeze", self.constant(*missing))
        fixed = len(chain.nodes)
        self._spread(chain, rows, source)
        before = [table.value] + ([source] if len(chain.nodes) > fixed else [])
        self._insert(chain.nodes, before, graph)
        return chain.value

    def _select(self, chain: _Chain, factor: Factor) -> None:
        columns, shape = factor.columns, self.sizes.shape(chain.value) or ()
        if columns == tuple(range(shape[-1].number or 0)):
            return
        step = columns[1] - columns[0] if len(columns) > 1 else 1
        end = columns[0] + step * len(columns)
        if step > 0 and columns == tuple(range(columns[0], end, step)):
            bounds = (columns[0], columns[-1] + 1, len(shape) - 1, step)
            chain.then("Slice", *(self.constant(number) for number in bounds))
        else:
            chain.then("Gather", self.constant(*columns), axis=len(shape) - 1)

    def _spread(self, chain: _Chain, rows: tuple[int, int], source: ir.Value) -> None:
        """Repeat the rows where the rotated value has more: the operator does not broadcast."""
        shape, mine = self.sizes.shape(source) or (), self.sizes.shape(chain.value) or ()
        wanted = [shape[axis] if axis >= 0 else ONE for axis in rows]
        if list(mine[:2]) == wanted:
            return
        same = [a == b for a, b in zip(wanted, mine, strict=False)]
        numbers = [1 if kept else size.number for kept, size in zip(same, wanted, strict=True)]
        known = [number for number in numbers if number is not None]
        if len(known) == len(numbers):
            chain.then("Expand", self.constant(*known, 1))
            return
        parts = []
        for axis, number in zip(rows, numbers, strict=True):
            if number is not None:
                parts.append(self.constant(number))
                continue
            bounds = {"start": axis, "end": axis + 1}
            parts.append(chain.beside(ir.node("Shape", [source], bounds)))
        joined = ir.node("Concat", [*parts, self.constant(1)], {"axis": 0})
        chain.then("Expand", chain.beside(joined))

    def _insert(self, nodes: Sequence[ir.Node], after: list[ir.Value], graph: ir.Graph) -> None:
        """Put nodes behind what makes the values, or first where that is another graph."""
        makers = [value.producer() for value in after]
        inside = [node for node in makers if node is not None and node.graph is graph]
        if inside:
            last = max(inside, key=lambda node: self.order.get(node, -1))
            graph.insert_after(last, nodes)
        else:
            graph.insert_before(graph[0], nodes)


class _Chain:
    """Nodes, each of which reads the one before."""

    def __init__(self, sizes: Sizes, value: ir.Value, kind: ir.TypeProtocol | None) -> None:
        self.sizes = sizes
        self.value = value
        self.kind = kind
        self.nodes: list[ir.Node] = []

    def beside(self, node: ir.Node) -> ir.Value:
        """Put in a node that gives sizes."""
        self.sizes.visit(node)
        self.nodes.append(node)
        value, shape = node.outputs[0], self.sizes.shape(node.outputs[0])
        value.type = ir.TensorType(ir.DataType.INT64)
        value.shape = declared(shape) if shape is not None else None
        return value

    def then(self, operator: str, *inputs: ir.Value, **attributes: int) -> None:
        """Append a node."""
        node = ir.node(operator, [self.value, *inputs], attributes)
        self.sizes.visit(node)
        self.value = node.outputs[0]
        self.value.type = self.kind
        if (shape := self.sizes.shape(self.value)) is not None:
            self.value.shape = declared(shape)
        self.nodes.append(node)
