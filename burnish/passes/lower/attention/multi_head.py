"""ONNX Runtime's MultiHeadAttention, with the mask told in one of several ways."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.facts import Facts
from burnish.passes.lower.attention.hiding import Hiding, alive_only
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class MultiHead:
    """`MultiHeadAttention(q, k, v, mask, past)`.

    With a past it gives all keys and values as well, and its causal limit lets query i see the keys
    of the past and the new ones up to i (contrib_ops/cpu/bert/attention_cpu_base.h).
    """

    name: str
    hiding: Hiding
    providers: tuple[str, ...] = ("cpu", "cuda", "openvino")

    def refusal(self, site: Site) -> str:
        return _unlike(site.facts) or _past(site) or self.hiding.refusal(site)

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        told = self.hiding.told(masks, site)
        facts, past = site.facts, site.past
        inputs = [*site.flattened(writer), None, told.keys, told.bias]
        inputs += [past.key, past.value] if past is not None else []
        result, *present = writer.nodes(
            site.node,
            "MultiHeadAttention",
            inputs,
            1 if past is None else 3,
            FUSED,
            num_heads=facts.heads,
            scale=facts.scale,
            **told.attributes,  # type: ignore[arg-type]
        )
        whole = alive_only(writer, site, result, told.alive)
        return Results(whole, True, (present[0], present[1]) if present else None)


def _unlike(facts: Facts) -> str:
    if facts.groups != facts.heads:
        return f"its {facts.heads} heads of queries share {facts.groups} of keys"
    return "its scores are bounded" if facts.cap else ""


def _past(site: Site) -> str:
    if site.facts.kept and site.past is None:
        return "it gives keys and values, but takes none"
    same = site.facts.size == site.facts.value_size
    return "" if site.past is None or same else "its values are of another size than its keys"
