"""Writes nodes before an attention; what several attentions share is made once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.heads import HEADS_INSIDE
from burnish.optimizer.analysis.matching import broadcast_written, written_size
from burnish.optimizer.constants import Constants


class Writer:
    """Writes the nodes of one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._constants = Constants()
        self._shared: dict[tuple[object, ...], ir.Value] = {}

    def node(
        self,
        before: ir.Node,
        operator: str,
        inputs: list[ir.Value | None],
        domain: str = "",
        kind: ir.DataType = ir.DataType.FLOAT,
        **attributes: int | float | list[int],
    ) -> ir.Value:
        """The output of a new node."""
        return self.nodes(before, operator, inputs, 1, domain, kind, **attributes)[0]

    def nodes(
        self,
        before: ir.Node,
        operator: str,
        inputs: list[ir.Value | None],
        outputs: int,
        domain: str = "",
        kind: ir.DataType = ir.DataType.FLOAT,
        **attributes: int | float | list[int],
    ) -> list[ir.Value]:
        """All outputs of a new node; inputs at the end that are None are left out."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=outputs)
        self.graph.insert_before(before, node)
        for output in node.outputs:
            output.type = ir.TensorType(kind)
        if operator in ("Max", "Where", "Add") and all(
            item is not None and item.shape is not None for item in inputs
        ):
            node.outputs[0].shape = broadcast_written(inputs)
        return list(node.outputs)

    def once(
        self, key: tuple[object, ...], before: ir.Node, operator: str,
        inputs: list[ir.Value | None], kind: ir.DataType = ir.DataType.INT64,
        **attributes: int | float | list[int],
    ) -> ir.Value:  # fmt: skip
        """The output of a node that is made where `key` is new."""
        if key not in self._shared:
            self._shared[key] = self.nodes(before, operator, inputs, 1, "", kind, **attributes)[0]
        return self._shared[key]

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """An initializer, one for equal contents."""
        return self._constants.of(self.graph, name, array)

    def number(self, value: float) -> ir.Value:
        """A float without axes."""
        return self.constant("number", np.array(value, np.float32))

    def integers(self, *numbers: int) -> ir.Value:
        """A vector of integers."""
        return self.constant("sizes", np.array(numbers, np.int64))

    def length(self, before: ir.Node, value: ir.Value, axis: int) -> ir.Value:
        """The size of an axis, as a vector of one element; equal sizes are one value."""
        key = ("length", written_size(value, axis))
        return self.once(key, before, "Shape", [value], start=axis, end=axis + 1)

    def total(self, before: ir.Node, first: ir.Value, second: ir.Value) -> ir.Value:
        """The sum of two lengths."""
        return self.once(("total", first, second), before, "Add", [first, second])

    def apart(self, before: ir.Node, value: ir.Value | None, heads: int) -> ir.Value:
        """[batch, sequence, heads * size] as [batch, heads, sequence, size]."""
        shape = self.integers(0, 0, heads, -1)
        split = self.node(before, "Reshape", [value, shape])
        return self.node(before, "Transpose", [split], perm=list(HEADS_INSIDE))

    def together(self, before: ir.Node, value: ir.Value, width: int) -> ir.Value:
        """[batch, heads, sequence, size] as [batch, sequence, width]."""
        turned = self.node(before, "Transpose", [value], perm=list(HEADS_INSIDE))
        return self.node(before, "Reshape", [turned, self.integers(0, 0, width)])
