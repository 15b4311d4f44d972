"""Which constants of a graph are weights, and trained; and where they go back to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from torch import Tensor

from burnish.optimizer.analysis.anchors.flow import SIZES

LARGEST = 1e3
"""Magnitude of the largest weight there is; masks hold larger numbers."""

READ: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "Gemm": (0, 1, 2), "Gather": (0,), "Conv": (1, 2), "ConvTranspose": (1, 2),
    "LayerNormalization": (1, 2), "RMSNormalization": (1,), "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2), "BatchNormalization": (1, 2), "Einsum": (0, 1),
    "Add": (0, 1), "Mul": (0, 1), "Sub": (0, 1), "Div": (0, 1), "Concat": (),
}  # fmt: skip
"""By operator: the inputs that may be weights; () for all."""

THROUGH = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Slice", "Tile")
"""Operators that give a weight another shape on its way to where it is read."""

PRODUCTS = ("MatMul", "Gemm")

ANGLES = ("Cos", "Sin")


def trained_in(model: ir.Model) -> list[str]:
    """Names of the float32 initializers that are weights of the main graph.

    Numbers alone, masks, and what angles of rotary embeddings follow from are none.
    """
    fixed = _behind_angles(model)
    return [
        name
        for name, value in model.graph.initializers.items()
        if value not in fixed and _is_weight(value)
    ]


def inner_products(model: ir.Model, names: Collection[str]) -> frozenset[str]:
    """Those of some weights that are matrices of products alone, none of which gives an answer."""
    return frozenset(
        name
        for name in names
        if (tensor := model.graph.initializers[name].const_value) is not None
        and len(tensor.shape) == 2
        and all(_is_inner(node) for node, _ in _readers(model.graph.initializers[name]))
    )


def _is_inner(node: ir.Node) -> bool:
    """Whether a node multiplies, and what it gives is no output, nor one with a bias added."""
    if node.op_type not in PRODUCTS or node.domain != "":
        return False
    given = node.outputs[0]
    added = [use.node.outputs[0] for use in given.uses() if use.node.op_type == "Add"]
    return not any(value.is_graph_output() for value in (given, *added))


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype is not ir.DataType.FLOAT or tensor.size < 2:
        return False
    if not any(_reads(node, place) for node, place in _readers(value)):
        return False
    array = tensor.numpy()
    return bool(np.isfinite(array).all()) and float(np.abs(array).max(initial=0.0)) < LARGEST


def _reads(node: ir.Node, place: int) -> bool:
    places = READ.get(node.op_type) if node.domain == "" else None
    return places is not None and (not places or place in places)


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    for node, place in value.uses():
        if node.op_type in THROUGH and place == 0:
            yield from _readers(node.outputs[0])
        else:
            yield node, place


def _behind_angles(model: ir.Model) -> set[ir.Value]:
    """All that cosines, sines and tables of rotary embeddings are computed from."""
    stack: list[ir.Value | None] = []
    for node in model.graph:
        if node.op_type in ANGLES:
            stack += node.inputs
        elif node.op_type == "RotaryEmbedding":
            stack += node.inputs[1:3]
    found: set[ir.Value] = set()
    while stack:
        value = stack.pop()
        if value is None or value in found:
            continue
        found.add(value)
        maker = value.producer()
        if maker is not None and maker.op_type not in SIZES:
            stack += maker.inputs
    return found


def put_back(model: ir.Model, weights: Mapping[str, Tensor]) -> None:
    """Give initializers the values that they have after training."""
    for name, tensor in weights.items():
        value = model.graph.initializers[name]
        array = tensor.detach().numpy().copy()
        value.const_value = ir.Tensor(array, name=name)
