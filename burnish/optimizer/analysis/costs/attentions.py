"""Attentions that are one operator: how many heads of which size, over how many positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import number
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.products import label

Sizes = tuple[int, ...] | None
Look = Callable[[int], Sizes]
"""The shape of an input of a node, by its place; None where it is absent or not known."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of one attention; None for what is not known.

    Attributes:
        heads, kv_heads: of the queries, and of the keys and values.
        queries, keys: positions, past ones included among the keys.
        size, value_size: elements of a head of queries and keys, and of values.
        projected: multiplications of the projections that the operator does itself.
    """

    batch: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    queries: int | None = None
    keys: int | None = None
    size: int | None = None
    value_size: int | None = None
    projected: int = 0

    @property
    def flops(self) -> float | None:
        """Work of both products. Positions that a mask hides count: the kernels compute them."""
        factors = (self.batch, self.heads, self.queries, self.keys)
        sizes = (self.size, self.value_size)
        if any(item is None for item in (*factors, *sizes)):
            return None
        return 2.0 * math.prod(item or 0 for item in factors) * sum(item or 0 for item in sizes)


def shape_of(value: ir.Value | None, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """The shape of a value where it is known: a constant's, an inferred, or a declared one."""
    if value is None:
        return None
    if value.const_value is not None:
        return tuple(int(size) for size in value.const_value.shape.numpy())
    if (inferred := shapes.get(value.name or "")) is not None:
        return inferred
    declared = tuple(value.shape) if value.shape is not None else (None,)
    sizes = tuple(size for size in declared if isinstance(size, int))
    return sizes if len(sizes) == len(declared) else None


def geometry(node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> Geometry | None:
    """The sizes of an attention; None where the node is no attention that is known here."""
    read = GEOMETRIES.get((node.domain, node.op_type))
    if read is None:
        return None

    def look(place: int) -> Sizes:
        return shape_of(node.inputs[place] if place < len(node.inputs) else None, shapes)

    return read(node, look)


def _has(node: ir.Node, place: int) -> bool:
    return place < len(node.inputs) and node.inputs[place] is not None


def _with_past(node: ir.Node, keys: int | None, place: int, look: Look) -> int | None:
    """Keys with those of the past, whose sizes are [batch, heads, past, size] (behind others)."""
    if not _has(node, place):
        return keys
    past = look(place)
    return None if past is None or keys is None or len(past) < 2 else keys + past[-2]


def _over(total: int | None, parts: int | None) -> int | None:
    return total // parts if total and parts else None


def _standard(node: ir.Node, look: Look) -> Geometry:
    """`Attention` of operator set 23: 3-D with the numbers of heads given, or 4-D."""
    query, key, value = look(0), look(1), look(2)
    heads = node.attributes.get_int("q_num_heads", 0) or None
    kv_heads = node.attributes.get_int("kv_num_heads", 0) or None
    found = Geometry(heads=heads, kv_heads=kv_heads)
    if query is not None and len(query) == 4:
        found = replace(found, batch=query[0], heads=query[1], queries=query[2], size=query[3])
    elif query is not None and len(query) == 3:
        found = replace(found, batch=query[0], queries=query[1], size=_over(query[2], heads))
    if key is not None and len(key) == 4:
        found = replace(found, kv_heads=key[1])
    keys = key[-2] if key is not None and len(key) > 1 else None
    size = value[-1] if value else None
    if value is not None and len(value) == 3:
        size = _over(value[-1], kv_heads)
    return replace(found, keys=_with_past(node, keys, 4, look), value_size=size)


def _multi_head(node: ir.Node, look: Look) -> Geometry:
    """`MultiHeadAttention`: packed [batch, n, heads, 3, size] or apart, keys also as 4-D."""
    heads = node.attributes.get_int("num_heads", 0) or None
    query, key, value = look(0), look(1), look(2)
    found = Geometry(heads=heads, kv_heads=heads)
    if query is None:
        return found
    size = query[-1] if len(query) == 5 else _over(query[-1], heads)
    found = replace(
        found, batch=query[0], queries=query[1], keys=query[1], size=size, value_size=size
    )
    if _has(node, 1):
        places = {3: 1, 4: 2, 5: 1}
        found = replace(found, keys=key[places.get(len(key), 1)] if key is not None else None)
    if _has(node, 2):
        width = value[-1] if value is not None else None
        apart = value is not None and len(value) == 3
        found = replace(found, value_size=_over(width, heads) if apart else width)
    return replace(found, keys=_with_past(node, found.keys, 6, look))


def _grouped(node: ir.Node, look: Look) -> Geometry:
    """`GroupQueryAttention`: queries alone, or packed with keys and values in the last axis."""
    heads = node.attributes.get_int("num_heads", 0) or None
    kv_heads = node.attributes.get_int("kv_num_heads", 0) or None
    query = look(0)
    found = Geometry(heads=heads, kv_heads=kv_heads)
    if query is None or len(query) != 3:
        return found
    in_width = heads if _has(node, 1) else (heads or 0) + 2 * (kv_heads or 0)
    size = _over(query[2], in_width)
    known = number(node.inputs[6]) if _has(node, 6) else None
    keys = int(known) if known is not None else _with_past(node, query[1], 3, look)
    return replace(found, batch=query[0], queries=query[1], keys=keys, size=size, value_size=size)


def _with_projection(node: ir.Node, look: Look) -> Geometry:
    """ONNX Runtime's own `Attention`, which multiplies with the weights of q, k and v itself."""
    heads = node.attributes.get_int("num_heads", 0) or None
    data, weight = look(0), look(1)
    found = Geometry(heads=heads, kv_heads=heads)
    if data is None or weight is None or len(data) != 3 or len(weight) != 2:
        return found
    widths = tuple(node.attributes.get_ints("qkv_hidden_sizes", ())) or (weight[1] // 3,) * 3
    past = 4 if node.op_type == "Attention" else 8
    return replace(
        found,
        batch=data[0],
        queries=data[1],
        keys=_with_past(node, data[1], past, look),
        size=_over(widths[0], heads),
        value_size=_over(widths[-1], heads),
        projected=math.prod(data) * weight[1],
    )


GEOMETRIES: dict[tuple[str, str], Callable[[ir.Node, Look], Geometry]] = {
    ("", "Attention"): _standard,
    ("com.microsoft", "Attention"): _with_projection,
    ("com.microsoft", "QAttention"): _with_projection,
    ("com.microsoft", "MultiHeadAttention"): _multi_head,
    ("com.microsoft", "GroupQueryAttention"): _grouped,
}

MASKS = {
    ("", "Attention"): (3,),
    ("com.microsoft", "Attention"): (3, 5),
    ("com.microsoft", "QAttention"): (5,),
    ("com.microsoft", "MultiHeadAttention"): (4, 5),
    ("com.microsoft", "GroupQueryAttention"): (10,),
}
"""The inputs that hold a mask or something else that is added to the scores."""


def describe(node: ir.Node, shapes: Mapping[str, tuple[int, ...]], masks: Masks) -> dict[str, Any]:
    """What a report says of an attention: heads, sizes, scale and mask."""
    found = geometry(node, shapes) or Geometry()
    scale = node.attributes.get_float("scale", 0.0)
    if not scale and found.size:
        scale = found.size**-0.5
    return {
        "node": label(node),
        "operator": node.op_type,
        "heads": found.heads,
        "kv_heads": found.kv_heads,
        "head_size": found.size,
        "scale": float(f"{scale:.6g}") if scale else None,
        "softcap": node.attributes.get_float("softcap", 0.0) or None,
        "mask": describe_mask(node, shapes, masks),
    }


def describe_mask(node: ir.Node, shapes: Mapping[str, tuple[int, ...]], masks: Masks) -> str:
    """Which keys a query of an attention sees, in words."""
    causal = ("is_causal", "unidirectional")
    parts = ["causal"] if any(node.attributes.get_int(name, 0) for name in causal) else []
    if node.op_type == "GroupQueryAttention":
        window = node.attributes.get_int("local_window_size", -1)
        parts = ["causal"] + ([f"window of {window} keys"] if window > 0 else [])
    for place in MASKS.get((node.domain, node.op_type), ()):
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is None:
            continue
        # Only the standard operator's mask is known to be added to scores, or to rule them out.
        parts.append(str(masks.of(value)) if not node.domain else _describe_tensor(value, shapes))
    return " & ".join(parts) or "none"


def _describe_tensor(value: ir.Value, shapes: Mapping[str, tuple[int, ...]]) -> str:
    sizes = shape_of(value, shapes)
    shown = " x ".join(map(str, sizes)) if sizes is not None else "?"
    return f"{'table' if value.const_value is not None else 'tensor'} {value.name} of {shown}"
