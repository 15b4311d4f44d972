"""Casts between float32 and a short type, each value once in either direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Observation
from burnish.optimizer.model import add_initializer, initializers
from burnish.optimizer.pruning import prune
from burnish.passes.lower.half.ranges import Short

SMALLEST_WEIGHT = 1 << 10
"""Elements of a weight from which storing it in half the bytes is worth a cast."""


class Casts:
    """Changes the types of values of one model.

    Args:
        model: changed in place; its values say their types.
        short: the other type.
        seen: what values were on the feeds.
    """

    def __init__(self, model: ir.Model, short: Short, seen: Mapping[str, Observation]) -> None:
        self._model = model
        self._short = short
        self._seen = seen
        self._halves: dict[tuple[ir.Value, bool], ir.Value] = {}

    def store(self) -> int:
        """Store float32 weights in the short type, with a cast before their use; how many."""
        count = 0
        for value in list(initializers(self._model)):
            tensor, home = value.const_value, value.graph
            if tensor is None or tensor.dtype is not ir.DataType.FLOAT or not value.uses():
                continue
            if tensor.size < SMALLEST_WEIGHT or value.is_graph_output():
                continue
            if self._short.does_not_fit(tensor):
                continue
            assert isinstance(home, ir.Graph)
            half = add_initializer(home, f"{value.name}_half", self._halved(tensor))
            node = ir.node("Cast", [half], {"to": ir.DataType.FLOAT.value})
            whole = node.outputs[0]
            whole.type, whole.shape = value.type, value.shape
            ir.convenience.replace_all_uses_with(value, whole)
            home.insert_before(home[0], node)
            del home.initializers[value.name or ""]
            count += 1
        return count

    def compute(self, nodes: Sequence[ir.Node], masks: Mapping[str, Sequence[int]]) -> None:
        """Let nodes of the main graph compute in the short type.

        Args:
            nodes: in order.
            masks: indices of inputs that are masks, by operator.
        """
        chosen, read = set(nodes), []
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value is None or value.dtype is not ir.DataType.FLOAT:
                    continue
                mask = index in masks.get(node.op_type, ())
                node.replace_input_with(index, self._half(value, node, mask=mask))
                read.append(value)
            for value in node.outputs:
                if value.dtype is ir.DataType.FLOAT:
                    self._restore(value, chosen)
        prune(read)

    def _half(self, value: ir.Value, anchor: ir.Node, *, mask: bool) -> ir.Value:
        """The value in the short type, for the anchor and those after it."""
        key = (value, mask and self._short.rules_out(value, self._seen))
        if key not in self._halves:
            self._halves[key] = self._made(value, anchor, clipped=key[1])
        return self._halves[key]

    def _made(self, value: ir.Value, anchor: ir.Node, *, clipped: bool) -> ir.Value:
        graph = self._model.graph
        if value.const_value is not None and value.producer() is None:
            tensor = value.const_value
            half = self._halved(tensor, clipped=clipped)
            return add_initializer(graph, f"{value.name}_half", half)
        source = value
        nodes = []
        if clipped:
            least = add_initializer(
                graph, "ruled_out", ir.tensor(np.float32(self._short.ruled_out))
            )
            nodes.append(ir.node("Max", [value, least]))
            source = nodes[-1].outputs[0]
            source.type, source.shape = value.type, value.shape
        nodes.append(ir.node("Cast", [source], {"to": self._short.dtype.value}))
        maker = value.producer()
        if maker is not None and maker.graph is graph:
            graph.insert_after(maker, nodes)
        else:
            graph.insert_before(anchor if anchor.graph is graph else graph[0], nodes)
        result = nodes[-1].outputs[0]
        result.type, result.shape = ir.TensorType(self._short.dtype), value.shape
        return result

    def _restore(self, value: ir.Value, chosen: Iterable[ir.Node]) -> None:
        """Make an output short, and cast it back for those that are not among the chosen."""
        kind, name, shape = value.type, value.name, value.shape
        others = [use for use in value.uses() if use.node not in chosen]
        value.type = ir.TensorType(self._short.dtype)
        # What is read in float32 is called as before; this is another value.
        value.name = f"{name}_half"
        if not others and not value.is_graph_output():
            return
        maker = value.producer()
        assert maker is not None and isinstance(maker.graph, ir.Graph)
        node = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
        whole = node.outputs[0]
        whole.type, whole.shape = kind, shape
        maker.graph.insert_after(maker, node)
        for use in others:
            use.node.replace_input_with(use.idx, whole)
        outputs = maker.graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                outputs[index] = whole
        whole.name = name

    def _halved(self, tensor: ir.TensorProtocol, *, clipped: bool = False) -> ir.LazyTensor:
        """A constant in the short type, computed each time its bytes are asked for."""
        short = self._short

        def compute() -> ir.TensorProtocol:
            array = tensor.numpy()
            least = np.maximum(array, np.float32(short.ruled_out)) if clipped else array
            return ir.Tensor(least.astype(short.dtype.numpy()))

        shape = ir.Shape(tensor.shape.numpy())
        return ir.LazyTensor(compute, dtype=short.dtype, shape=shape, cache=False)
