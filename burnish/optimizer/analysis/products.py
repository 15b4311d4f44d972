"""Matrix products with constant weights, however the exporter wrote them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Refusal

QUANTIZED = {"MatMulInteger", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul", "MatMulNBits"}
"""Products that are in few bits as they are."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
"""Types of weights that models compute in."""

BLOCK = 1 << 20
"""Elements that are looked at together."""


@dataclass(frozen=True)
class Product:
    """`output = activation @ weight * alpha + bias`, with everything but the activation constant.

    Attributes:
        nodes: the nodes that compute it (a `MatMul` or `Gemm`, and an `Add` of a constant).
        activation: left operand [..., k].
        weight: initializer; [k, n], or [n, k] where `transposed`.
        bias: initializer [n] (or [1, ..., n]), or None.
        alpha, beta: factors of the product and of the bias (from `Gemm`).
        output: value [..., n].
    """

    nodes: tuple[ir.Node, ...]
    activation: ir.Value
    weight: ir.Value
    transposed: bool
    bias: ir.Value | None
    alpha: float
    beta: float
    output: ir.Value

    @property
    def k(self) -> int:
        """Length of the dot products."""
        return int(shape_of(self.weight)[1 if self.transposed else 0])

    @property
    def n(self) -> int:
        """Number of output channels."""
        return int(shape_of(self.weight)[0 if self.transposed else 1])

    @property
    def graph(self) -> ir.Graph:
        """The graph or subgraph whose nodes compute it."""
        graph = self.nodes[0].graph
        assert isinstance(graph, ir.Graph)
        return graph


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape of a constant."""
    assert value.const_value is not None
    return tuple(int(size) for size in value.const_value.shape.numpy())


def is_finite(value: ir.Value) -> bool:
    """Whether no element of a constant is NaN or infinite."""
    assert value.const_value is not None
    matrix = value.const_value.numpy()
    rows = max(1, BLOCK // max(1, matrix[:1].size))
    blocks = (matrix[start : start + rows] for start in range(0, len(matrix), rows))
    # A finite sum, which is quick, has finite elements only.
    return all(math.isfinite(block.sum()) or bool(np.isfinite(block).all()) for block in blocks)


def find_products(
    model: ir.Model, types: Collection[ir.DataType] = (ir.DataType.FLOAT,)
) -> tuple[list[Product], list[Refusal]]:
    """The products of the graph and its subgraphs, in order, and what resembles one but is none.

    `types` are those of the weights.
    """
    products, refusals = [], []
    for node in _nodes(model):
        if node.op_type in QUANTIZED:
            refusals.append(Refusal(label(node), "it is quantized already"))
        if node.op_type not in ("MatMul", "Gemm") or node.domain != "":
            continue
        found = _match(node, types)
        if isinstance(found, Product):
            products.append(found)
        elif found:
            refusals.append(Refusal(label(node), found))
    return products, refusals


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)


def label(node: ir.Node) -> str:
    """How a node is called in reports: its name, or its operator and output."""
    return node.name or f"{node.op_type} {node.outputs[0].name}"


def _match(node: ir.Node, types: Collection[ir.DataType]) -> Product | str:
    """The product that `node` begins, or why not; empty where both operands are computed."""
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return ""
    weight, transposed = _constant(right)
    if weight is None:
        if _constant(left)[0] is not None:
            return "the weight is the left operand"
        return _hidden(right)
    if len(shape_of(weight)) != 2:
        return f"the weight has {len(shape_of(weight))} dimensions, not 2"
    assert weight.const_value is not None
    if weight.const_value.dtype not in types:
        named = " or ".join(kind.name for kind in types)
        return f"the weight is {weight.const_value.dtype.name}, not {named}"
    if node.op_type == "Gemm":
        return _match_gemm(node, left, weight, transposed)
    nodes, bias, output = _with_bias(node, int(shape_of(weight)[0 if transposed else 1]))
    return Product(nodes, left, weight, transposed, bias, 1.0, 1.0, output)


def _hidden(value: ir.Value) -> str:
    """Why an operand that is computed from constants alone is no weight; empty where it is not."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.inputs else None
    if node is None or source is None or source.const_value is None:
        return ""
    if node.op_type == "Cast":
        return f"the weight is {source.const_value.dtype.name}, cast when it is used"
    return "it is quantized already" if node.op_type == "DequantizeLinear" else ""


def _match_gemm(node: ir.Node, left: ir.Value, weight: ir.Value, transposed: bool) -> Product | str:
    if node.attributes.get_int("transA", 0):
        return "the activation is transposed"
    transposed ^= bool(node.attributes.get_int("transB", 0))
    alpha = node.attributes.get_float("alpha", 1.0)
    beta = node.attributes.get_float("beta", 1.0)
    width = int(shape_of(weight)[0 if transposed else 1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not _is_bias(bias, width):
        return "the bias is not a constant vector"
    return Product((node,), left, weight, transposed, bias, alpha, beta, node.outputs[0])


def _constant(value: ir.Value) -> tuple[ir.Value | None, bool]:
    """The initializer that `value` is, or is the matrix transpose of."""
    if value.const_value is not None and value.producer() is None:
        return value, False
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.inputs[0] is None:
        return None, False
    source = node.inputs[0]
    if source.const_value is None or source.producer() is not None:
        return None, False
    permutation = node.attributes.get_ints("perm", (1, 0))
    return (source, True) if tuple(permutation) == (1, 0) else (None, False)


def _with_bias(node: ir.Node, width: int) -> tuple[tuple[ir.Node, ...], ir.Value | None, ir.Value]:
    """The product's node with the `Add` of a constant vector after it, if there is one."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) == 1 and not output.is_graph_output():
        adder = uses[0].node
        other = adder.inputs[1 - uses[0].idx] if adder.op_type == "Add" else None
        if other is not None and adder.graph is node.graph and _is_bias(other, width):
            return (node, adder), other, adder.outputs[0]
    return (node,), None, output


def _is_bias(value: ir.Value, width: int) -> bool:
    if value.const_value is None or value.producer() is not None:
        return False
    shape = shape_of(value)
    return bool(shape) and shape[-1] == width and int(np.prod(shape)) == width and len(shape) <= 2


def groups(products: list[Product]) -> list[list[Product]]:
    """Products that share an activation in the same graph, in order of their first."""
    found: dict[tuple[int, int], list[Product]] = {}
    for product in products:
        found.setdefault((id(product.graph), id(product.activation)), []).append(product)
    return list(found.values())
