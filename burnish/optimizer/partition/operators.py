"""Kinds of operators whose times a device's rates say about as well, or as badly."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import OPERANDS
from burnish.optimizer.analysis.costs.products import CONVOLUTIONS

PRODUCTS, ATTENTION, ELEMENTWISE, MOVES = "products", "attention", "elementwise", "moves"

KINDS = (PRODUCTS, ATTENTION, ELEMENTWISE, MOVES)
"""Products with weights; products of activations and softmaxes; elementwise ones and
normalizations; those that only move data."""

MOVING = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
    "Pad", "Reshape", "ScatterElements", "ScatterND", "Shape", "Slice", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
})  # fmt: skip

ATTENTIONS = frozenset({
    "Softmax", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention",
})  # fmt: skip


def kind_of(node: ir.Node) -> str:
    """The kind of an operator."""
    if node.op_type in ATTENTIONS:
        return ATTENTION
    if node.op_type in OPERANDS or node.op_type in CONVOLUTIONS:
        places = OPERANDS.get(node.op_type, (0, 1))
        known = [node.inputs[place] for place in places if place < len(node.inputs)]
        stored = any(value is not None and value.const_value is not None for value in known)
        return PRODUCTS if stored or node.op_type in CONVOLUTIONS else ATTENTION
    return MOVES if node.op_type in MOVING else ELEMENTWISE
