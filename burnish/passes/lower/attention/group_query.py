"""ONNX Runtime's GroupQueryAttention: causal, with heads that share keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import written_size
from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.hiding import alive_only
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer

INTEGERS: dict[str, int | float | str] = {
    "k_quant_type": "PER_TENSOR",
    "v_quant_type": "PER_TENSOR",
    "kv_cache_bit_width": 8,
}
"""How it is told of a past in int8; scales are in the queries, and behind the results."""


@dataclass(frozen=True)
class GroupQuery:
    """`GroupQueryAttention(q, k, v, past, lengths, mask)`.

    It is always causal; what else a mask says is added. Lengths by row are for padding on the right
    alone, which no mask of an input proves, so each row is told to be whole. Windows are added as
    well, since its `local_window_size` counts the query itself in some releases only. With a past
    it takes one sequence, or one query of each. The kernel for GPUs computes in half types. That
    for processors reads a past in int8 (pull requests 28576 and 28578 of ONNX Runtime).
    """

    name: str = "GroupQueryAttention"
    providers: tuple[str, ...] = ("cpu",)

    def refusal(self, site: Site) -> str:
        site = site.inner or site
        facts, meaning = site.facts, site.meaning
        if facts.size % 8 or facts.size != facts.value_size or facts.heads % facts.groups:
            return f"its heads are of {facts.size} and {facts.value_size}, not a multiple of 8"
        if not meaning.causal:
            return meaning.rest or "it is not causal"
        if not (meaning.zero or meaning.sees_itself):
            return "a query without keys gives a mean that it cannot say"
        if site.past is None:
            return ""
        batch, rows = written_size(site.query, 0), written_size(site.query, site.rows)
        return "" if 1 in (batch, rows) else "with a past it takes one sequence or one query"

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        site = site.inner or site
        facts, node, past = site.facts, site.node, site.past
        plain = not site.meaning.rest and site.meaning.padding is None
        bias = None if plain else masks.whole(site)
        before = [past.key, past.value] if past is not None else [None, None]
        inputs = [*site.flattened(writer), *before, *_lengths(writer, site), None, None, None]
        inputs.append(bias.added if bias is not None else None)
        attributes: dict[str, int | float | str] = {"softcap": facts.cap} if facts.cap else {}
        if past is not None and past.integers:
            one = writer.constant("scale", np.array([1], np.float32))
            inputs += [None, one, one]
            attributes |= INTEGERS
        result, *present = writer.nodes(
            node,
            self.name,
            inputs,
            3 if past is not None or facts.kept else 1,
            FUSED,
            num_heads=facts.heads,
            kv_num_heads=facts.groups,
            scale=facts.scale,
            **attributes,  # type: ignore[arg-type]
        )
        whole = alive_only(writer, site, result, bias.alive if bias is not None else None)
        return Results(whole, True, (present[0], present[1]) if present else None)


def _lengths(writer: Writer, site: Site) -> list[ir.Value]:
    """The index of the last key in each row [batch], and the number of keys []; as int32."""
    node, kind = site.node, ir.DataType.INT32
    source, axis = site.places[1]
    keys = writer.length(node, source, axis)
    if site.past is not None:
        keys = writer.total(node, writer.length(node, site.past.key, 2), keys)
    batch = writer.length(node, source, 0)
    key = ("number of keys", keys)
    cast = writer.once(key, node, "Cast", [keys], kind, to=kind.value)
    # Where all sizes are fixed, ONNX's inference hands their sum through a cast in 64 bits, which
    # ONNX Runtime's own for this operator refuses ("ParseData type mismatch"); not through a Max.
    count = writer.once(("largest", cast), node, "Max", [cast], kind)
    one = writer.constant("number", np.array([1], np.int32))
    last = writer.once(("last", count), node, "Sub", [count, one], kind)
    each = writer.once(("each", last, batch), node, "Expand", [last, batch], kind)
    return [each, count]
