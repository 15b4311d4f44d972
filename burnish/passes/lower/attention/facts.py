"""What an `Attention` computes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional, rank


@dataclass(frozen=True)
class Facts:
    """The attributes of an `Attention`, and what its operands are.

    Attributes:
        heads, groups: of queries, and of keys and values.
        size, value_size: elements of one head of queries and keys, and of values.
        flat: whether operands are [batch, sequence, heads * size], not [batch, heads, ...].
        scale: factor of the scores.
        cap: bound of the scores, or 0.
        causal: whether query i sees no keys after i (and those of the past, where there are).
        kept: whether all keys and values are outputs as well.
    """

    heads: int
    groups: int
    size: int
    value_size: int
    flat: bool
    scale: float
    cap: float
    causal: bool
    kept: bool


def facts_of(node: ir.Node) -> Facts | str:
    """The facts of a node, or why it stays as it is."""
    query, key, value = node.inputs[0], node.inputs[1], node.inputs[2]
    assert query is not None and key is not None and value is not None
    past = optional(node, 4), optional(node, 5)
    if optional(node, 6) is not None:
        return "an input says how many of its keys count"
    if len(node.outputs) > 3 and (node.outputs[3].uses() or node.outputs[3].is_graph_output()):
        return "it gives its scores as well"
    if any(item.shape is None for item in (query, key, value)):
        return "the shapes of its operands are not known"
    if query.dtype is not ir.DataType.FLOAT:
        return f"it computes in {query.dtype}"
    mask = optional(node, 3)
    if mask is not None and mask.shape is None:
        return "the shape of its mask is not known"
    if (past[0] is None) != (past[1] is None) or any(
        item is not None and rank(item) != 4 for item in past
    ):
        return "its past keys and values are not of four axes each"
    return _with_heads(node, query, key, value)


def _with_heads(node: ir.Node, query: ir.Value, key: ir.Value, value: ir.Value) -> Facts | str:
    assert query.shape is not None and key.shape is not None and value.shape is not None
    flat = len(query.shape) == 3
    heads = node.attributes.get_int("q_num_heads", 0) if flat else query.shape[1]
    groups = node.attributes.get_int("kv_num_heads", 0) if flat else key.shape[1]
    width, wide = query.shape[-1], value.shape[-1]
    if not (isinstance(heads, int) and isinstance(groups, int) and isinstance(width, int)):
        return "its heads or their size are not known"
    if not (heads and groups and isinstance(wide, int)):
        return "its heads or their size are not known"
    size = width // heads if flat else width
    return Facts(
        heads,
        groups,
        size,
        wide // groups if flat else wide,
        flat,
        node.attributes.get_float("scale", size**-0.5),
        node.attributes.get_float("softcap", 0.0),
        bool(node.attributes.get_int("is_causal", 0)),
        len(node.outputs) > 1,
    )
