"""Operators of ONNX Runtime's own domain, replaced by standard ones that give the same shapes.

ONNX's shape inference knows none of them, and everything after one would have no shape.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import NodeProto, TensorProto, helper

LIKE_THE_FIRST = {
    "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "BiasSoftmax", "RotaryEmbedding",
    "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "GroupNorm", "DecoderMaskedMultiHeadAttention",
}  # fmt: skip
"""Operators whose output (and the fourth, a sum) has the shape of their first input."""

Make = Callable[["_Graph", NodeProto], list[NodeProto]]


def stand_in(model: onnx.ModelProto) -> None:
    """Replace the operators in the main graph, in place; a model for shape inference alone."""
    graph = _Graph(model.graph)
    nodes = [new for node in model.graph.node for new in graph.replace(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Graph:
    """Makes the replacements, and what they need besides."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input}
        self._dims: dict[str, list[int]] = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.input
        } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self._count = 0

    def replace(self, node: NodeProto) -> list[NodeProto]:
        own = node.domain == "com.microsoft" or "SimplifiedLayerNorm" in node.op_type
        make = MAKERS.get(node.op_type)
        if not own or not node.input or not node.output:
            return [node]
        if node.op_type in LIKE_THE_FIRST:
            outputs = [name for name in (node.output[0], *node.output[3:4]) if name]
            return [helper.make_node("Identity", node.input[:1], [name]) for name in outputs]
        return make(self, node) if make is not None else [node]

    def name(self) -> str:
        self._count += 1
        return f"stand-in {self._count}"

    def input(self, *shape: int) -> str:
        """A new input of the graph."""
        name = self.name()
        self._graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def sizes(self, values: list[int]) -> str:
        """A new constant vector."""
        name = self.name()
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        self._graph.initializer.append(tensor)
        return name

    def rank(self, name: str) -> int:
        """The rank of an input of the graph; 0 for other values."""
        return self._ranks.get(name, 0)

    def dims(self, name: str) -> list[int]:
        """The sizes of a weight."""
        return self._dims.get(name, [])


def _attribute(node: NodeProto, name: str, default: int = 0) -> int:
    return next((item.i for item in node.attribute if item.name == name), default)


def _input(node: NodeProto, place: int) -> str:
    return node.input[place] if place < len(node.input) else ""


def _fused_product(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    if _attribute(node, "transBatchA") or _attribute(node, "transBatchB"):
        return [node]
    left = "...ji" if _attribute(node, "transA") else "...ij"
    right = "...kj" if _attribute(node, "transB") else "...jk"
    equation = f"{left},{right}->...ik"
    return [helper.make_node("Einsum", node.input[:2], node.output[:1], equation=equation)]


def _gemm(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    plain = helper.make_node("Gemm", node.input[:3], node.output[:1])
    plain.attribute.extend(item for item in node.attribute if item.name.startswith("trans"))
    return [plain]


def _integer_product(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    number = graph.name()
    return [
        helper.make_node("Cast", node.input[:1], [number], to=TensorProto.FLOAT),
        helper.make_node("MatMul", [number, node.input[1]], node.output[:1]),
    ]


def _packed_product(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    weight = graph.input(_attribute(node, "K"), _attribute(node, "N"))
    return [helper.make_node("MatMul", [node.input[0], weight], node.output[:1])]


def _attention(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    dims = graph.dims(_input(node, 1))
    if len(dims) != 2:
        return [node]
    widths = next((item.ints for item in node.attribute if item.name == "qkv_hidden_sizes"), ())
    weight = graph.input(dims[0], widths[-1] if widths else dims[1] // 3)
    return [helper.make_node("MatMul", [node.input[0], weight], node.output[:1])]


def _multi_head(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    query, key, value = (_input(node, place) for place in range(3))
    if key and value and graph.rank(value) != 4:
        return [
            helper.make_node("Einsum", [query, value], node.output[:1], equation="bqh,bkv->bqv")
        ]
    apart, terms = graph.name(), [query]
    equation = "bqnpd->bqnd"  # all of q, k and v packed
    if key and value:
        terms, equation = [query, value], "bqh,bnkd->bqnd"
    elif key:
        terms, equation = [query, key], "bqh,bknpd->bqnd"
    return [
        helper.make_node("Einsum", terms, [apart], equation=equation),
        helper.make_node("Reshape", [apart, graph.sizes([0, 0, -1])], node.output[:1]),
    ]


def _grouped(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    if _input(node, 1):
        return [helper.make_node("Identity", node.input[:1], node.output[:1])]
    heads, others = _attribute(node, "num_heads"), 2 * _attribute(node, "kv_num_heads")
    apart, queries = graph.name(), graph.name()
    bounds = [graph.sizes([number]) for number in (0, heads, 2)]
    split = graph.sizes([0, 0, heads + others, -1])
    return [
        helper.make_node("Reshape", [node.input[0], split], [apart]),
        helper.make_node("Slice", [apart, *bounds], [queries]),
        helper.make_node("Reshape", [queries, graph.sizes([0, 0, -1])], node.output[:1]),
    ]


def _embedding(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    return [helper.make_node("Gather", [_input(node, 2), node.input[0]], node.output[:1])]


def _convolution(graph: _Graph, node: NodeProto) -> list[NodeProto]:
    plain = helper.make_node("Conv", node.input[:3], node.output[:1])
    plain.attribute.extend(item for item in node.attribute if not item.name.startswith("activ"))
    return [plain]


MAKERS: dict[str, Make] = {
    "FusedMatMul": _fused_product,
    "FusedGemm": _gemm,
    "DynamicQuantizeMatMul": _integer_product,
    "MatMulIntegerToFloat": _integer_product,
    "MatMulNBits": _packed_product,
    "MatMulBnb4": _packed_product,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped,
    "EmbedLayerNormalization": _embedding,
    "FusedConv": _convolution,
}
