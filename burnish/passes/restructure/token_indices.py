"""The indices behind the pass `pack`: where real tokens are, in both layouts."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import onnx_ir as ir

from burnish.optimizer.constants import Constants


class TokenIndices:
    """Makes indices at the head of a graph, each once, from the mask of its tokens.

    Args:
        mask: input [batch, sequence] that says which tokens are real.
        selected: positions that are computed whether they are real or not.
        free: makes names that nothing has.
    """

    def __init__(
        self,
        graph: ir.Graph,
        mask: ir.Value,
        selected: Collection[int],
        free: Callable[[str], str],
    ) -> None:
        self.mask = mask
        self.selected = selected
        self._graph = graph
        self._free = free
        self._head: list[ir.Node] = []
        self._last: ir.Node | None = None
        self._constants = Constants()
        self._indices: dict[str, ir.Value] = {}

    def put(self) -> None:
        """Put what was made since the last time where every node can read it."""
        if self._last is None:
            self._graph.insert_before(self._graph[0], self._head)
        else:
            self._graph.insert_after(self._last, self._head)
        self._last = self._head[-1] if self._head else self._last
        self._head = []

    def get(self, name: str) -> ir.Value:
        """One of the indices, made once; see the methods named like them."""
        if name not in self._indices:
            value: ir.Value = getattr(self, f"_{name}")()
            if value not in self._indices.values():
                value.name = self._free(f"pack_{name}")
            self._indices[name] = value
            if self._last is not None:
                self.put()
        return self._indices[name]

    def _real(self) -> ir.Value:
        """[batch, sequence]: whether a token is real."""
        return self.emit("Cast", [self.mask], {"to": ir.DataType.BOOL.value})

    def _computed(self) -> ir.Value:
        """[batch, sequence]: whether a token is computed, since it is real or selected."""
        computed, selected = self.get("real"), sorted(self.selected)
        if not selected:
            return computed
        length, one = self.get("length"), self.constant(1)
        places = self.emit("Range", [self.constant(0), length, one])
        for position in selected:
            place = self.constant(position)
            if position < 0:
                place = self.emit("Add", [length, place])
            computed = self.emit("Or", [computed, self.emit("Equal", [places, place])])
        return computed

    def _length(self) -> ir.Value:
        """[]: positions of a sequence."""
        return self.emit("Gather", [self.get("shape"), self.constant(1)])

    def _shape(self) -> ir.Value:
        """[2]: batch and sequence."""
        return self.emit("Shape", [self.mask])

    def _flat_real(self) -> ir.Value:
        """[batch * sequence]: whether a token is real."""
        return self.emit("Reshape", [self.get("real"), self.constant([-1])])

    def _pairs(self) -> ir.Value:
        """[2, tokens]: row and position of the first token and of each that is computed."""
        found = self.emit("NonZero", [self.get("computed")])
        return self.emit("Concat", [self.constant([[0], [0]]), found], {"axis": 1})

    def _tokens(self) -> ir.Value:
        """[1, tokens, 2]: the same, pair by pair."""
        pairs = self.emit("Transpose", [self.get("pairs")], {"perm": (1, 0)})
        return self.emit("Unsqueeze", [pairs, self.constant([0])])

    def _row_starts(self) -> ir.Value:
        """[1, tokens, 2]: each token's row, and 0."""
        return self.emit("Mul", [self.get("tokens"), self.constant([1, 0])])

    def _positions(self) -> ir.Value:
        """[tokens]: each token's position."""
        return self.emit("Gather", [self.get("pairs"), self.constant(1)])

    def _row_positions(self) -> ir.Value:
        """[1, tokens]: each token's position."""
        return self.emit("Unsqueeze", [self.get("positions"), self.constant([0])])

    def _flat_tokens(self) -> ir.Value:
        """[tokens]: each token's place among all positions of all sequences."""
        rows = self.emit("Gather", [self.get("pairs"), self.constant(0)])
        before = self.emit("Mul", [rows, self.get("length")])
        return self.emit("Add", [before, self.get("positions")])

    def _flat_places(self) -> ir.Value:
        """[batch * sequence]: the row of the packed layout that each position's values are in."""
        flat = self.emit("Reshape", [self.get("computed"), self.constant([-1])])
        number = self.emit("Cast", [flat], {"to": ir.DataType.INT64.value})
        counted = self.emit("CumSum", [number, self.constant(0)])
        return self.emit("Mul", [counted, number])

    def _places(self) -> ir.Value:
        """[batch, sequence, 2]: 0, and that row."""
        rows = self.emit("Reshape", [self.get("flat_places"), self.get("shape")])
        column = self.emit("Unsqueeze", [rows, self.constant([2])])
        return self.emit("Mul", [column, self.constant([0, 1])])

    def _segments(self) -> ir.Value:
        """[sequences + 2]: where the first token and each sequence of tokens begin, and the end."""
        number = self.emit("Cast", [self.get("computed")], {"to": ir.DataType.INT64.value})
        counts = self.emit("ReduceSum", [number, self.constant([1])], {"keepdims": 0})
        some = self.emit("Cast", [counts], {"to": ir.DataType.BOOL.value})
        ends = self.emit("CumSum", [self.emit("Compress", [counts, some]), self.constant(0)])
        ahead = self.constant([0, 1])
        return self.emit("Concat", [ahead, self.emit("Add", [ends, self.constant(1)])], {"axis": 0})

    def _seen(self) -> ir.Value:
        """[1, tokens]: whether a token is real."""
        return self.emit("GatherND", [self.get("real"), self.get("tokens")])

    def emit(
        self,
        operator: str,
        inputs: list[ir.Value],
        attributes: dict[str, int | tuple[int, ...]] | None = None,
    ) -> ir.Value:
        """The result of a node at the head of the graph."""
        node = ir.node(operator, inputs, attributes or {})
        self.add(node)
        return node.outputs[0]

    def add(self, node: ir.Node) -> None:
        """Take a node that reads nothing but inputs and indices."""
        self._head.append(node)

    def constant(self, numbers: object) -> ir.Value:
        """Whole numbers, with the axes that they are written with."""
        return self._constants.of(self._graph, "pack_constant", np.array(numbers, np.int64))
