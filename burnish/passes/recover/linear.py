"""Linear layers, in whatever spelling, become a product and a sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.linear import Layer, match
from burnish.optimizer.analysis.matching import readers
from burnish.optimizer.analysis.products import label, shape_of
from burnish.optimizer.analysis.sizes import Size, Sizes, declared, product
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import prune, take_over
from burnish.passes.recover.linear_parameters import Parameters, home

ORDERLY = ("Reshape", "Flatten", "Unsqueeze", "Squeeze")


@dataclass(frozen=True)
class Linear(Pass):
    """Write linear layers as `MatMul(x, weight[k, n])` and `Add(..., bias[n])`.

    Before:
        `Reshape(Gemm(Reshape(x, [-1, k]), weight, bias), [..., n])`, `MatMul` with the transpose of
        a weight, `Einsum` that is one, `Conv` of one place between transposes, `MatMul` with the
        weight on the left between transposes, a bias of [1, 1, n] or on the left.
    After:
        `Add(MatMul(x, weight), bias)` on `x` of any number of axes. A weight that is stored
        transposed is transposed when the model is saved.
    Refuses when:
        The bias is computed or scaled, the activation of a `Gemm` is transposed, a convolution or a
        weight on the left does not stand between transposes. A transposed weight that is read as it
        is, too (tied embeddings), keeps its `Transpose`, so that it is stored once.
    Numerics:
        Rounding; the same dot products, the bias added after them.
    """

    name = "linear"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        sizes, refusals = Sizes.of(model), []
        rewriter = _Rewriter(sizes, Parameters(sizes))
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            layer = match(node) if node.graph is not None else None
            if layer is None:
                continue
            problem = layer.problem or rewriter.rewrite(layer)
            if problem:
                refusals.append(Refusal(label(node), problem))
        done = rewriter.count
        return Outcome(done, tuple(refusals), detail=f"{done} linear layers")


@dataclass
class _Rewriter:
    """Rewrites layers of one model."""

    sizes: Sizes
    parameters: Parameters
    count: int = 0

    def rewrite(self, layer: Layer) -> str:
        """Bring a layer into the normal form; why that cannot be, in words, else nothing."""
        rank = len(self.sizes.shape(layer.node.outputs[0]) or ())
        if layer.bias is not None and layer.adder is not None and len(shape_of(layer.bias)) > rank:
            return "its bias has more axes than the product, as far as the graph says"
        if layer.turned:
            return self._turn(layer)
        if layer.node.op_type == "Einsum":
            return self._from_einsum(layer)
        restored = dict(self._restored(layer))
        if restored:
            for source, values in restored.items():
                self._lift(layer, source, values)
                break
        elif layer.node.op_type == "Gemm":
            self._replace(layer, self._build(layer, layer.activation), layer.output)
        elif not layer.is_normal:
            self._mend(layer)
        else:
            return ""
        self.count += 1
        return ""

    def _mend(self, layer: Layer) -> None:
        """Change what is not normal about a product that may stay where it is."""
        if not layer.is_plain:
            old = layer.node.inputs[1]
            layer.node.replace_input_with(1, self.parameters.weight(layer))
            prune([old])
        if layer.adder is not None and layer.bias is not None and not layer.is_normal:
            bias = self.parameters.bias(layer.bias)
            layer.adder.replace_input_with(0, layer.node.outputs[0])
            layer.adder.replace_input_with(1, bias)
            prune([layer.bias])

    def _restored(self, layer: Layer) -> Iterator[tuple[ir.Value, list[ir.Value]]]:
        """What was flattened before the product, with the values that restore its axes after it."""
        found: dict[ir.Value, list[ir.Value]] = {}
        earlier = self._earlier(layer.activation)
        flat = self.sizes.shape(layer.activation)
        if not earlier or flat is None:
            return
        for node in readers(layer.output):
            shape = self.sizes.shape(node.outputs[0]) if node.outputs else None
            if node.op_type not in ORDERLY or not shape or node.graph is not layer.node.graph:
                continue
            if node.inputs[0] is not layer.output or shape[-1].number != layer.outer[0]:
                continue
            source = earlier.get((*shape[:-1], flat[-1]))
            if source is not None and len(shape) > 1:
                found.setdefault(source, []).append(node.outputs[0])
        yield from found.items()

    def _earlier(self, activation: ir.Value) -> dict[tuple[Size, ...], ir.Value]:
        """What was reshaped into the activation, by its shape, trailing axes taken as one, too."""
        whole: dict[tuple[Size, ...], ir.Value] = {}
        merged: dict[tuple[Size, ...], ir.Value] = {}
        for value in _ancestors(activation):
            shape = self.sizes.shape(value) or ()
            whole[shape] = value
            for axis in range(1, len(shape) - 1):
                merged[*shape[:axis], product(shape[axis:])] = value
        return merged | whole

    def _lift(self, layer: Layer, source: ir.Value, values: list[ir.Value]) -> None:
        """Multiply what has its axes still, and read it where they were restored."""
        lead = len(self.sizes.shape(values[0]) or ()) - 1
        if len(self.sizes.shape(source) or ()) > lead + 1:  # heads, say, merged with the rows
            source = self._reshaped(layer, source, [*[0] * lead, -1])
        result = self._build(layer, source)
        self._replace(layer, result, values[0])
        for value in values[1:]:
            if not value.is_graph_output():
                ir.convenience.replace_all_uses_with(value, result)
                prune([value])
        if not layer.output.uses() and not layer.output.is_graph_output():
            prune([layer.output])
            return
        # Others read the flat rows.
        graph = layer.node.graph
        assert isinstance(graph, ir.Graph)
        rows = add_initializer(home(layer.weight), "rows", ir.tensor(np.array([-1, *layer.outer])))
        flat = self._node("Reshape", [result, rows])
        maker = result.producer()
        assert maker is not None
        graph.insert_after(maker, flat)
        take_over(layer.output, _shaped(flat.outputs[0], layer.output))

    def _turn(self, layer: Layer) -> str:
        """Multiply on the right what is multiplied on the left between transposes."""
        before = layer.activation.producer()
        places = readers(layer.output)
        if before is None or not self._swaps(before) or before.inputs[0] is None:
            return "its features are not along the last axis, nor were they before a transpose"
        if layer.output.is_graph_output() or not places or not all(map(self._swaps, places)):
            return "its features are not along the last axis, nor are they after a transpose"
        result = self._build(layer, before.inputs[0])
        self._replace(layer, result, places[0].outputs[0])
        for node in places[1:]:
            if not node.outputs[0].is_graph_output():
                ir.convenience.replace_all_uses_with(node.outputs[0], result)
                prune([node.outputs[0]])
        self.count += 1
        return ""

    def _swaps(self, node: ir.Node) -> bool:
        """Whether a node swaps the last two axes."""
        order = node.attributes.get_ints("perm", ()) if node.op_type == "Transpose" else ()
        rank = len(order)
        return rank > 1 and tuple(order) == (*range(rank - 2), rank - 1, rank - 2)

    def _from_einsum(self, layer: Layer) -> str:
        shape = self.sizes.shape(layer.activation)
        if shape is None:
            return "its shape is not known"
        source, lead = layer.activation, len(shape) - layer.inner
        if layer.inner > 1:
            source = self._reshaped(layer, source, [*[0] * lead, -1])
        value = self._build(layer, source)
        if len(layer.outer) > 1:
            value = self._reshaped(layer, value, [*[0] * lead, *layer.outer])
        self._replace(layer, value, layer.output)
        self.count += 1
        return ""

    def _reshaped(self, layer: Layer, value: ir.Value, sizes: list[int]) -> ir.Value:
        """`value` reshaped to the sizes, before the layer's product."""
        shape = add_initializer(home(layer.weight), "sizes", ir.tensor(np.array(sizes)))
        node = self._node("Reshape", [value, shape])
        graph = layer.node.graph
        assert isinstance(graph, ir.Graph)
        graph.insert_before(layer.node, node)
        return node.outputs[0]

    def _build(self, layer: Layer, source: ir.Value) -> ir.Value:
        """The layer on `source`, in the normal form, before its present product."""
        graph = layer.node.graph
        assert isinstance(graph, ir.Graph)
        weight = self.parameters.weight(layer)
        nodes = [self._node("MatMul", [source, weight])]
        if layer.bias is not None:
            inputs = [nodes[-1].outputs[0], self.parameters.bias(layer.bias)]
            nodes.append(self._node("Add", inputs))
        graph.insert_before(layer.node, nodes)
        return nodes[-1].outputs[0]

    def _node(self, operator: str, inputs: list[ir.Value]) -> ir.Node:
        node = ir.node(operator, inputs)
        self.sizes.visit(node)
        shape, value = self.sizes.shape(node.outputs[0]), node.outputs[0]
        types = [item.type for item in reversed(inputs) if operator != "Reshape"]
        value.type = next((kind for kind in (*types, inputs[0].type) if kind is not None), None)
        value.shape = declared(shape) if shape is not None and value.type is not None else None
        return node

    def _replace(self, layer: Layer, result: ir.Value, output: ir.Value) -> None:
        """Let `result` be `output`, under its name; what made that goes where nothing reads it."""
        take_over(output, _shaped(result, output))
        prune([layer.weight, layer.bias])


def _shaped(result: ir.Value, output: ir.Value) -> ir.Value:
    """The result with what the output says of its shape."""
    if output.shape is not None:
        result.shape = output.shape
    return result


def _ancestors(value: ir.Value) -> Iterator[ir.Value]:
    """The values that were reshaped into this one, nearest first."""
    graph = None
    while (maker := value.producer()) is not None and maker.op_type in ORDERLY:
        graph = graph or maker.graph
        source = maker.inputs[0]
        if source is None or maker.graph is not graph:
            return
        value = source
        yield value
