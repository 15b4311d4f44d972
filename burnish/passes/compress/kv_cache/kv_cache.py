"""Caches of keys and values in int8."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.contract import LOSSY, Context, Outcome, Phase, Refusal, Sparing
from burnish.passes.compress.kv_cache.places import find
from burnish.passes.compress.kv_cache.rewrite import Rewriter
from burnish.passes.compress.kv_cache.scales import scales


@dataclass(frozen=True)
class KvCache(Sparing):
    """Hand caches of keys and values from run to run in int8.

    Each channel of each head has a fixed scale, by what it held on the feeds; keys have channels
    that are far larger than others (KIVI, Liu et al. 2024, arXiv:2402.02750), which a scale for
    the tensor would leave few steps. Positions are rounded once, when they are new. The scales
    go to the queries and to the results of attentions, so that the cache itself is only converted.
    The caller's ports become int8 in the artifact; see `optimizer.caches`.

    Before:
        `present = Concat(past, new)`, which `Attention` reads; or `GroupQueryAttention`.
    After:
        `present = Concat(past, QuantizeLinear(new / s))` in int8, of which `Attention` reads
        `DequantizeLinear(present)`, its queries or results times `s`; or `GroupQueryAttention` with
        the scales of channels.
    Refuses when:
        Something else reads the past, an operator that takes no integers grows it, its heads or
        their size are not known, it is not in float32, nothing was seen of it, or its output is in
        `keep`.
    Numerics:
        Lossy: half a step, of which there are 101 up to the largest number that a channel held on
        the feeds; what is larger by more than a quarter is cut.
    """

    keep: tuple[str, ...] = ()

    name = "kv-cache"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        shapes.annotate(model)
        places, refusals = find(model, self.keep)
        known = scales(model, places, context)
        counts = Counter(place.node for place in places if place.present.name in known)
        writer, caches = Rewriter(model), []
        for place in places:
            # `GroupQueryAttention` has two caches, and takes integers for both or none.
            if counts[place.node] < sum(place.node is other.node for other in places):
                reason = "nothing was seen of it, or what is no number"
                refusals.append(Refusal(place.past.name or "", reason))
                continue
            caches.append(writer.cache(place, known[place.present.name or ""]))
        detail = f"{len(caches)} caches in int8" if caches else "there is no cache"
        return Outcome(len(caches), tuple(refusals), detail=detail, caches=tuple(caches))
