"""Writes what replaces a transform: nodes before an anchor, matrices once for each graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.spectra import Matrix
from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer


@dataclass
class Store:
    """What several places share, by what it is.

    Attributes:
        made: constants and matrices.
        turns: what matrices of a length that is not known are made of.
    """

    made: dict[object, ir.Value] = field(default_factory=dict)
    turns: dict[object, tuple[ir.Value, ir.Value, ir.Value]] = field(default_factory=dict)


@dataclass(frozen=True)
class Writer:
    """Puts nodes before an anchor.

    Attributes:
        anchor: a node of the graph; what is written may use what comes before it.
        store: of constants of all places.
    """

    anchor: ir.Node
    store: Store

    @property
    def graph(self) -> ir.Graph:
        """The graph that is written to."""
        graph = self.anchor.graph
        assert isinstance(graph, ir.Graph)
        return graph

    def node(
        self,
        operator: str,
        *inputs: ir.Value,
        kind: ir.DataType = ir.DataType.FLOAT,
        **attributes: int | float | list[int],
    ) -> ir.Value:
        """The output of a new node."""
        node = ir.node(operator, inputs, attributes)
        node.outputs[0].type = ir.TensorType(kind)
        self.graph.insert_before(self.anchor, node)
        return node.outputs[0]

    def array(self, key: object, name: str, array: Array) -> ir.Value:
        """A constant, made once for equal keys."""
        known = self.store.made.get((self.graph, key))
        if known is None or known.graph is not self.graph:
            known = add_initializer(self.graph, name, ir.tensor(np.array(array, order="C")))
            self.store.made[self.graph, key] = known
        return known

    def numbers(self, *numbers: int) -> ir.Value:
        """A vector of whole numbers."""
        return self.array(numbers, "numbers", np.array(numbers, np.int64))

    def number(self, number: int) -> ir.Value:
        """A whole number."""
        return self.array(("scalar", number), "number", np.array(number, np.int64))

    def real(self, number: float) -> ir.Value:
        """A number in float32."""
        return self.array(("real", number), "number", np.array(number, np.float32))

    def matrix(self, matrix: Matrix, part: str, turned: bool) -> ir.Value:
        """The part `cosine` or `sine` of a matrix, [given, present] or turned."""
        array: Array = getattr(matrix, part)
        array = array.T if turned else array
        return self.array((matrix, part, turned), f"transform_{part}", array)

    def squeezed(self, value: ir.Value) -> ir.Value:
        """The value without its last axis, of one element."""
        return self.node("Squeeze", value, self.numbers(-1))

    def unsqueezed(self, value: ir.Value) -> ir.Value:
        """The value with a last axis of one element."""
        return self.node("Unsqueeze", value, self.numbers(-1))

    def reshaped(self, value: ir.Value, kept: int, *sizes: int) -> ir.Value:
        """The value with its first axes as they are, and others behind them."""
        return self.node("Reshape", value, self.numbers(*[0] * kept, *sizes))

    def sliced(self, value: ir.Value, first: int, end: int, axis: int = -1) -> ir.Value:
        """Some elements along an axis."""
        bounds = (self.numbers(item) for item in (first, end, axis))
        return self.node("Slice", value, *bounds)
