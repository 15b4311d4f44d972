"""The region of an attention in chunks: from its projections to the values that it mixes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import (
    Flow,
    given,
    handed_on,
    number,
    operands,
    readers,
)
from burnish.optimizer.analysis.products import label

MOVES = {
    "Reshape", "Transpose", "Gather", "GatherND", "Slice", "Pad", "Concat", "Unsqueeze", "Squeeze",
    "Expand", "Identity", "Cast", "Dropout", "ScatterND", "Split", "Flatten",
}  # fmt: skip
"""Operators that put elements elsewhere and change none."""

MOST = 400
"""Nodes between a softmax and its products."""


@dataclass(frozen=True)
class Region:
    """The values between which an attention lies.

    Attributes:
        query, key, value: as they were projected, before they were taken apart into chunks.
        result: the mixed values, in their layout before they are multiplied with a weight.
        scale: constant factors between the projections and the softmax.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    result: ir.Value
    scale: float


@dataclass(frozen=True)
class Lost:
    """Why there is no such region, and the node where the form differs."""

    reason: str


def region_of(softmax: ir.Node, flow: Flow) -> Region | Lost:
    """The region around an attention's softmax."""
    behind = flow.products_behind(given(softmax, 0))
    plain = [node for node in behind if node.op_type != "ReduceSum" and flow.is_product(node)]
    if len(plain) != 1:
        return Lost(f"its scores come from {', '.join(map(label, behind)) or 'no product'}")
    query, key = operands(plain[0])
    mixing = _product_ahead(softmax.outputs[0], flow)
    if isinstance(mixing, Lost):
        return mixing
    product, place = mixing
    third = operands(product)[1 - place]
    roots = [_projected(item) for item in (query, key, third)]
    scale = roots[0][1] * roots[1][1] * roots[2][1] * _scale(softmax, plain[0], flow)
    result = _laid_out(product.outputs[0])
    return Region(roots[0][0], roots[1][0], roots[2][0], result, scale)


def _projected(value: ir.Value) -> tuple[ir.Value, float]:
    """What is behind moves and constant factors, and those factors."""
    factor = 1.0
    for _ in range(MOST):
        node = value.producer()
        if node is None:
            break
        if node.op_type in ("Mul", "Div") and (other := number(given(node, 1))):
            factor = factor / other if node.op_type == "Div" else factor * other
        elif node.op_type not in MOVES:
            break
        before = next(iter(handed_on(node)), None)
        if before is None:
            break
        value = before
    return value, factor


def _scale(softmax: ir.Node, product: ir.Node, flow: Flow) -> float:
    """The constant factors between a product and its softmax."""
    seen: set[ir.Node] = set()
    factor, near = 1.0, [given(softmax, 0)]
    while near:
        value = near.pop()
        node = value.producer() if value is not None else None
        if node is None or node is product or node in seen or len(seen) > MOST:
            continue
        seen.add(node)
        if node.op_type in ("Mul", "Div") and (other := number(given(node, 1))):
            factor = factor / other if node.op_type == "Div" else factor * other
        near += [item for item in handed_on(node) if flow.from_product(item)]
    return factor


def _product_ahead(value: ir.Value, flow: Flow) -> tuple[ir.Node, int] | Lost:
    """The product that weights go into, and the place of the weights among its operands."""
    near, found = [value], []
    for current in near:  # grows while it is walked
        for node, place in readers(current):
            if flow.is_product(node) and current in operands(node):
                found.append((node, operands(node).index(current)))
            elif (node.op_type in MOVES and place == 0) or node.op_type in ("Where", "Mul"):
                near += [item for item in node.outputs if item not in near]
        if len(near) > MOST:
            break
    if len({node for node, _ in found}) != 1:
        names = ", ".join(label(node) for node, _ in found) or "no product"
        return Lost(f"its probabilities go into {names}")
    return found[0]


def _laid_out(value: ir.Value) -> ir.Value:
    """The value after the moves that follow it, as far as each is its only reader."""
    for _ in range(MOST):
        uses = [node for node, _ in readers(value) if node.op_type != "Shape"]
        if len(uses) != 1 or uses[0].op_type not in ("Reshape", "Transpose", "Identity", "Cast"):
            break
        value = uses[0].outputs[0]
    return value
