"""Weights of convolutions as matrices: what is added up over goes along the rows."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import is_finite, shape_of
from burnish.optimizer.contract import Array
from burnish.passes.compress.masks.methods import MAGNITUDE, masked
from burnish.passes.compress.masks.pattern import Pattern


def find_convolutions(model: ir.Model) -> list[ir.Node]:
    """Convolutions with a constant float32 weight, subgraphs too, in order."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return [node for node in nodes if node.op_type == "Conv" and not node.domain and _has(node)]


def _has(node: ir.Node) -> bool:
    weight = node.inputs[1]
    if weight is None or weight.const_value is None or weight.producer() is not None:
        return False
    return weight.const_value.dtype is ir.DataType.FLOAT


def why_not(node: ir.Node, method: str, pattern: Pattern, keep: Collection[str]) -> str:
    """Why the weight of a convolution stays as it is; empty where it may get zeros."""
    weight = node.inputs[1]
    assert weight is not None
    if node.outputs[0].name in keep:
        return "kept in fp32 to stay within the budget"
    if method != MAGNITUDE:
        return f"it is a convolution, which only --mask {MAGNITUDE} takes"
    if node.outputs[0].is_graph_output():
        return "it gives an output"
    if len(weight.uses()) > 1 or weight.is_graph_output():
        return "its weight has other readers"
    if reason := pattern.why_not(shape_of(weight)[1], "channels"):
        return reason
    if not is_finite(weight):
        return "its weight holds NaN or infinity"
    return "it has as many zeros already" if pattern.holds(_matrix(weight)) else ""


def write(node: ir.Node, pattern: Pattern) -> Array:
    """Give the weight of a convolution its zeros, by magnitude; what it is then."""
    weight = node.inputs[1]
    assert weight is not None
    outputs, channels, *window = shape_of(weight)
    matrix = masked(_matrix(weight), None, MAGNITUDE, pattern)
    parts = matrix.reshape(channels, -1, outputs).transpose(2, 0, 1)
    stored = np.ascontiguousarray(parts).reshape(outputs, channels, *window)
    weight.const_value = ir.Tensor(stored, name=weight.name)
    return stored


def _matrix(weight: ir.Value) -> Array:
    """A weight [outputs, channels, ...] as [channels, places * outputs]."""
    tensor = weight.const_value
    assert tensor is not None
    array = tensor.numpy()
    parts = array.reshape(*array.shape[:2], -1).transpose(1, 2, 0)
    return np.ascontiguousarray(parts).reshape(array.shape[1], -1)
