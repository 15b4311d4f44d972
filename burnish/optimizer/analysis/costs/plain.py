"""Attentions that stay plain operators since no standard one says them, told as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, number, operands
from burnish.optimizer.analysis.anchors.sinks import PASSING, scores_beside
from burnish.optimizer.analysis.chunks import FORM, Chunks
from burnish.optimizer.analysis.costs.attentions import shape_of
from burnish.optimizer.analysis.costs.sight import Sight, seen_through
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.products import label

MOST = 24
"""Nodes between a softmax and its product."""


@dataclass
class _Scores:
    """What lies between the product and the softmax."""

    product: ir.Node | None = None
    scale: float | None = 1.0
    mask: ir.Value | None = None


def describe_plain(
    anchor: Anchor, flow: Flow, shapes: Mapping[str, tuple[int, ...]], masks: Masks
) -> dict[str, Any]:
    """What a report says of an attention with sinks: as of one that is an operator."""
    scores = _scores(scores_beside(anchor.node, flow), flow)
    factors = operands(scores.product) if scores.product is not None else []
    query = shape_of(factors[0], shapes) if factors else None
    split = query if query is not None and len(query) == 4 else None
    heads = split[1] if split else None
    return {
        "node": label(anchor.node),
        "operator": anchor.form,
        "heads": heads,
        "kv_heads": _groups(factors[1], heads, shapes) if len(factors) > 1 else None,
        "head_size": split[3] if split else None,
        "scale": float(f"{scores.scale:.6g}") if scores.scale else None,
        "softcap": None,
        "mask": str(masks.of(scores.mask)) if scores.mask is not None else "none",
        **(seen_through(masks.of(scores.mask)) if scores.mask is not None else Sight()).as_json(),
    }


def mask_of(anchor: Anchor, flow: Flow) -> ir.Value | None:
    """What is added to the scores of an attention that `describe_plain` tells of."""
    return _scores(scores_beside(anchor.node, flow), flow).mask


def describe_chunks(anchor: Anchor, window: Chunks) -> dict[str, Any]:
    """What a report says of an attention in chunks whose window is proven."""
    return {
        "node": label(anchor.node),
        "operator": FORM,
        "heads": window.heads,
        "kv_heads": window.heads,
        "head_size": window.size,
        "scale": float(f"{window.scale:.6g}"),
        "softcap": None,
        "mask": str(window),
        **Sight(window.right == 0, (window.left, window.right)).as_json(),
    }


def _scores(value: ir.Value | None, flow: Flow) -> _Scores:
    found = _Scores()
    for _ in range(MOST):
        node = value.producer() if value is not None else None
        if node is None:
            break
        if flow.gives_scores(node):
            found.product = node
            break
        if node.op_type in PASSING:
            value = given(node, 0)
            continue
        inner = [item for item in node.inputs if flow.from_product(item)]
        others = [item for item in node.inputs if item not in inner]
        if len(inner) != 1 or len(others) != 1 or node.op_type not in ("Add", "Mul", "Div"):
            found.scale = None  # what else is done to the scores is not told
            break
        if node.op_type == "Add":
            found.mask = others[0]
        elif found.scale is not None:
            factor = number(others[0]) or 0.0
            if node.op_type == "Div":
                factor = 1.0 / factor if factor else 0.0
            found.scale = found.scale * factor or None
        value = inner[0]
    return found


def _groups(
    key: ir.Value | None, heads: int | None, shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """Heads of the keys, before each was repeated for several heads of the queries."""
    found = heads
    while key is not None and (node := key.producer()) is not None:
        if node.op_type not in ("Transpose", "Reshape", "Expand", "Unsqueeze", "Identity"):
            break
        key = given(node, 0)
        shape = shape_of(key, shapes)
        if node.op_type == "Unsqueeze" and shape is not None and len(shape) == 4:
            found = shape[1] if heads and shape[1] and heads % shape[1] == 0 else found
            break
    return found
