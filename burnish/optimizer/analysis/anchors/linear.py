"""Linear layers: products of an activation with a constant matrix."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.attention import learned_queries
from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, operands, source

FORM = "MatMul + Add"

QUANTIZED = {
    "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4",
    "QLinearMatMul", "QGemm",
}  # fmt: skip
"""Linear layers in few bits, as they are."""

SHAPING = ("Cast", "Identity", "Reshape", "Expand", "Unsqueeze", "Squeeze", "Transpose", "Tile")
UNPACKING = ("DequantizeLinear", "Slice", "Split", *SHAPING)
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
"""Operators between a weight as it is stored and its product."""

MOST = 24
"""Values that are looked at between the two."""


def linears(flow: Flow) -> Iterator[Anchor]:
    """The linear layers of a model, in order; outer products and learned queries are none."""
    queries = learned_queries(flow)
    for node in flow.nodes:
        if node in queries:
            continue
        if node.op_type in ("Conv", "FusedConv", "ConvInteger"):
            if _is_pointwise(flow, node):
                yield Anchor("linear", node, FORM)
            continue
        factors = operands(node)
        constant = [place for place, value in enumerate(factors) if flow.is_constant(value)]
        if len(factors) != 2 or len(constant) != 1:
            continue
        if node.op_type in QUANTIZED:
            yield Anchor("linear", node, FORM, found=True)
            continue
        # What is computed from constants by other products is a table, such as relative positions.
        if not _is_stored(factors[constant[0]]):
            continue
        if _contracts(node, factors[constant[0]], constant[0]):
            plain = node.op_type in ("MatMul", "Gemm") and constant == [1]
            yield Anchor("linear", node, FORM, found=plain and _is_weight(factors[1]))


def _is_stored(value: ir.Value) -> bool:
    """Whether a value is a constant, unpacked or not."""
    near = [value]
    for current in near:  # grows while it is walked
        node = current.producer()
        if node is None or node.op_type == "Constant":
            continue
        if node.op_type not in (*UNPACKING, *ARITHMETIC) or len(near) > MOST:
            return False
        inputs = node.inputs if node.op_type in ARITHMETIC else node.inputs[:1]
        near.extend(item for item in inputs if item is not None)
    return True


def _is_weight(value: ir.Value) -> bool:
    """Whether a value is an initializer, or the matrix transpose of one."""
    node = value.producer()
    stored = given(node, 0) if node is not None and node.op_type == "Transpose" else value
    return stored is not None and stored.producer() is None and stored.const_value is not None


def _is_pointwise(flow: Flow, node: ir.Node) -> bool:
    weight = given(node, 1)
    if not flow.is_constant(weight) or not flow.is_data(given(node, 0)):
        return False
    shape = weight.shape if weight is not None else None
    if shape is None or node.attributes.get_int("group", 1) != 1:
        return False
    return len(shape) > 2 and all(size == 1 for size in tuple(shape)[2:])


def _contracts(node: ir.Node, value: ir.Value, place: int) -> bool:
    """Whether the product adds up over more than one element, as far as the graph says."""
    if node.op_type == "Einsum":
        return True
    flag = ("transA", "transB")[place]
    transposed = bool(node.attributes.get_int(flag, 0))
    if value.shape is not None and len(value.shape) > 1:
        axis = -1 if (place == 0) != transposed else -2
        return value.shape[axis] != 1
    whole = source(value, SHAPING)
    if whole is None or whole.shape is None:
        return True
    return sum(1 for size in whole.shape if size != 1) > 1
