"""Attentions: softmaxes of a product of two activations that multiply a third.

A query that is learned is an activation as well, of which every sequence has the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from burnish.optimizer.analysis.anchors import sinks
from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, readers

OPERATORS = {
    ("", "Attention"),
    ("com.microsoft", "Attention"),
    ("com.microsoft", "QAttention"),
    ("com.microsoft", "MultiHeadAttention"),
    ("com.microsoft", "GroupQueryAttention"),
    ("com.microsoft", "PackedAttention"),
    ("com.microsoft", "PackedMultiHeadAttention"),
    ("com.microsoft", "DecoderMaskedSelfAttention"),
    ("com.microsoft", "DecoderMaskedMultiHeadAttention"),
    ("com.microsoft", "SparseAttention"),
    ("com.microsoft", "LongformerAttention"),
}
"""Attentions that are one operator."""

SOFTMAXES = ("Softmax", "BiasSoftmax", "QLinearSoftmax")


def attentions(flow: Flow) -> Iterator[Anchor]:
    """The attentions of a model, in order.

    A router's softmax is of a product with a constant; one over classes multiplies nothing.
    """
    for node in flow.nodes:
        if (node.domain, node.op_type) in OPERATORS:
            yield Anchor("attention", node, "Attention", found=True)
            continue
        parts = _softmax(node)
        if parts is None or not flow.from_product(_logits(node)):
            continue
        if not flow.into_product(node.outputs[0]):
            continue
        kept = sinks.with_sinks(node, flow)
        form = sinks.FORM if kept else "Attention"
        yield Anchor("attention", node, form, found=kept, parts=parts)


def learned_queries(flow: Flow) -> set[ir.Node]:
    """The products of a learned query with keys, which are part of an attention."""
    return {
        product
        for anchor in attentions(flow)
        if anchor.node.op_type not in ("Attention", "MultiHeadAttention")
        for product in flow.products_behind(_logits(anchor.node))
        if flow.has_learned_query(product)
    }


def _softmax(node: ir.Node) -> tuple[ir.Node, ...] | None:
    """The other nodes of a softmax that begins (as `Exp`) or is `node`; None where it is none."""
    if node.op_type in SOFTMAXES:
        return ()
    if node.op_type != "Exp" or node.domain != "":
        return None
    logits = given(node, 0)
    before = logits.producer() if logits is not None else None
    sums = [reader for reader, _ in readers(node.outputs[0], "ReduceSum", "ReduceL1")]
    if sums:
        divided = [reader for reader, _ in readers(node.outputs[0], "Div", "Mul")]
        return (*sums, *divided, *([before] if before is not None else []))
    if before is None:
        return None
    if before.op_type == "LogSoftmax":
        return (before,)
    operands = [value.producer() for value in before.inputs if value is not None]
    logarithms = [item for item in operands if item is not None and "LogSumExp" in item.op_type]
    return (before, *logarithms) if before.op_type == "Sub" and logarithms else None


def _logits(node: ir.Node) -> ir.Value | None:
    value = given(node, 0)
    before = value.producer() if value is not None else None
    return given(before, 0) if before is not None and before.op_type == "LogSoftmax" else value
