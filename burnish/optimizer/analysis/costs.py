"""What a run costs: multiplications by operator, from shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

Shapes = Mapping[str, tuple[int, ...]]


def matrix_flops(model: ir.Model, shapes: Shapes) -> dict[str, float]:
    """Floating point operations of the matrix products, by operator, for the given shapes.

    A multiplication with an addition counts as two. Nodes whose shapes are not known count as
    nothing; elementwise work is not counted.
    """
    totals: dict[str, float] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        flops = _flops(node, shapes)
        if flops:
            totals[node.op_type] = totals.get(node.op_type, 0.0) + flops
    return totals


def _shape(value: ir.Value | None, shapes: Shapes) -> tuple[int, ...] | None:
    if value is None:
        return None
    if value.const_value is not None:
        return tuple(int(size) for size in value.const_value.shape.numpy())
    return shapes.get(value.name or "")


def _flops(node: ir.Node, shapes: Shapes) -> float:
    if node.op_type in ("MatMul", "MatMulInteger", "Gemm"):
        left, output = _shape(node.inputs[0], shapes), _shape(node.outputs[0], shapes)
        if not left:
            return 0.0
        transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1
        inner = left[0] if transposed else left[-1]
        if output is None and (right := _shape(node.inputs[1], shapes)):
            across = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
            rows = left[-1:] if transposed else left[:-1]
            output = (*rows, right[0] if across else right[-1])
        return 2.0 * math.prod(output) * inner if output else 0.0
    if node.op_type in ("Conv", "ConvInteger"):
        kernel, output = _shape(node.inputs[1], shapes), _shape(node.outputs[0], shapes)
        return 2.0 * math.prod(output) * math.prod(kernel[1:]) if kernel and output else 0.0
    if node.op_type == "Attention":
        query, key = _shape(node.inputs[0], shapes), _shape(node.inputs[1], shapes)
        if query and key:
            return 4.0 * math.prod(query) * key[-2]
    return 0.0
