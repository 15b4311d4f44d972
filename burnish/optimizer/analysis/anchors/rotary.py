"""Rotary embeddings: a value times a cosine plus its turned half times a sine."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, number, readers, source

SHAPING = ("Cast", "Identity", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Transpose")
PARTS = ("Slice", "Split", "Gather", *SHAPING)
"""Operators that take a half of a value, or every other element."""

MOST = 16
"""Values that are looked at between the turned value and its product with the sine."""


def rotaries(flow: Flow) -> Iterator[Anchor]:
    """The rotary embeddings of a model, in order: one per value that is turned."""
    for node in flow.nodes:
        if node.op_type == "RotaryEmbedding":
            yield Anchor("rotary", node, "RotaryEmbedding", found=True)
        elif node.op_type == "Concat" and (parts := _turned(flow, node)) is not None:
            yield Anchor("rotary", node, "RotaryEmbedding", parts=parts)


def _turned(flow: Flow, node: ir.Node) -> tuple[ir.Node, ...] | None:
    """Other nodes of the rotation that a Concat of two halves belongs to."""
    if len(node.inputs) != 2 or not flow.is_data(node.outputs[0]):
        return None
    first, second = (source(value, SHAPING) for value in node.inputs)
    negated = _negated(first)
    if negated is not None:
        whole = source(negated, PARTS)
        if whole is None or whole is not source(second, PARTS):
            return None
        product = _multiplied(node.outputs[0])
        assert first is not None
        minus = first.producer()
        return None if product is None or minus is None else (minus, product)
    return _complex(first, second)


def _negated(value: ir.Value | None) -> ir.Value | None:
    """What a value is the negative of."""
    node = value.producer() if value is not None else None
    if node is None:
        return None
    if node.op_type == "Neg":
        return given(node, 0)
    if node.op_type == "Mul":
        for index in (0, 1):
            if number(given(node, 1 - index)) == -1.0:
                return given(node, index)
    if node.op_type == "Sub" and number(given(node, 0)) == 0.0:
        return given(node, 1)
    return None


def _multiplied(value: ir.Value) -> ir.Node | None:
    """The product with the sine, whose result is added to another value."""
    near, seen = [value], {value}
    for current in near:  # grows while it is walked
        for node, _ in current.uses():
            if node.op_type == "Mul" and any(True for _ in readers(node.outputs[0], "Add", "Sum")):
                return node
            onward = node.op_type in SHAPING and len(near) < MOST
            if onward and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                near.append(node.outputs[0])
    return None


def _complex(first: ir.Value | None, second: ir.Value | None) -> tuple[ir.Node, ...] | None:
    """The nodes of `a * cos - b * sin` beside `b * cos + a * sin`, for halves a, b of a value."""
    minus = first.producer() if first is not None else None
    plus = second.producer() if second is not None else None
    if minus is None or plus is None or (minus.op_type, plus.op_type) != ("Sub", "Add"):
        return None
    factors = [[_factors(value) for value in node.inputs] for node in (minus, plus)]
    (a_cos, b_sin), terms = factors
    if not a_cos or not b_sin:
        return None
    for b_cos, a_sin in (terms, terms[::-1]):
        a, b = a_cos & a_sin, b_sin & b_cos
        if len(a) == len(b) == 1 and a_cos & b_cos and b_sin & a_sin:
            wholes = {source(value, PARTS) for value in (*a, *b)}
            return (minus, plus) if len(wholes) == 1 else None
    return None


def _factors(value: ir.Value | None) -> frozenset[ir.Value]:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Mul":
        return frozenset()
    return frozenset(item for item in node.inputs if item is not None)
