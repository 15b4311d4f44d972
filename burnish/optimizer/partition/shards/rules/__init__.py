"""What each operator needs in parts, where its results are wanted in parts.

A rule takes a `Site` and gives a layout for each input, or None where the operator cannot be run
in these parts; it is run whole then, and its result taken in parts.
"""

from __future__ import annotations

from collections.abc import Callable

from burnish.optimizer.partition.shards.layout import Layout
from burnish.optimizer.partition.shards.local import Fix, nothing
from burnish.optimizer.partition.shards.rules import (
    attention,
    elementwise,
    gathers,
    moves,
    products,
)
from burnish.optimizer.partition.shards.site import Site

Rule = Callable[[Site], list[Layout] | None]

OWN = "com.microsoft"
"""The domain of ONNX Runtime's operators."""

PRODUCTS: dict[str, tuple[Rule, Fix]] = {
    **{name: (products.product, nothing) for name in products.PLAIN},
    "Gemm": (products.gemm, nothing),
    "MatMulNBits": (products.packed, products.packed_locally),
    "Einsum": (products.einsum, nothing),
    "Conv": (products.convolution, nothing),
}

ATTENTIONS: dict[str, tuple[Rule, Fix]] = {
    "GroupQueryAttention": (attention.group_query, attention.fused_locally),
    "MultiHeadAttention": (attention.multi_head, attention.fused_locally),
}

MOVES: dict[str, tuple[Rule, Fix]] = {
    "Reshape": (moves.reshape, moves.resized_locally),
    "Flatten": (moves.reshape, nothing),
    "Squeeze": (moves.reshape, nothing),
    "Unsqueeze": (moves.reshape, nothing),
    "Transpose": (moves.transpose, nothing),
    "Concat": (moves.concat, nothing),
    "Split": (moves.split, moves.split_locally),
    "Slice": (moves.slice_, moves.slice_locally),
    "Gather": (gathers.gather, gathers.gather_locally),
    "GatherND": (gathers.gather_items, gathers.gather_locally),
    "Tile": (moves.tile, nothing),
    "ConstantOfShape": (moves.filled, moves.filled_locally),
}

RULES: dict[str, tuple[Rule, Fix]] = {
    **{name: (elementwise.elementwise, nothing) for name in elementwise.ELEMENTWISE},
    **{name: (elementwise.line, nothing) for name in elementwise.LINES},
    **{name: (elementwise.tail, nothing) for name in elementwise.TAILS},
    **{name: (elementwise.reduction, nothing) for name in elementwise.REDUCTIONS},
    "QuantizeLinear": (elementwise.quantization, nothing),
    "DequantizeLinear": (elementwise.quantization, nothing),
    "Expand": (elementwise.elementwise, moves.resized_locally),
    "RotaryEmbedding": (attention.rotary, attention.rotary_locally),
    **PRODUCTS,
    **MOVES,
    **ATTENTIONS,
}
"""Rules and what is changed on a rank, by operator."""


def rule_of(domain: str, operator: str) -> tuple[Rule, Fix] | None:
    """The rule of an operator; None where it is known only whole."""
    if domain not in ("", OWN):
        return None
    if operator == "Attention":
        if domain:
            return attention.projecting, attention.fused_locally
        return attention.standard, attention.standard_locally
    return RULES.get(operator)
