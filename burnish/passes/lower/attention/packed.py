"""Forms that multiply with the weights of queries, keys and values at once."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.forms import FUSED
from burnish.optimizer.model import add_initializer
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.hiding import Hiding, alive_only
from burnish.passes.lower.attention.projection import Projection
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class Weighted:
    """ONNX Runtime's own `Attention(x, [wq wk wv], [bq bk bv], mask)`.

    Its kernel for processors writes heads without a transpose. It reads the bias unasked
    (contrib_ops/cpu/bert/attention.cc), so there always is one.
    """

    name: str
    hiding: Hiding
    providers: tuple[str, ...] = ("cpu", "cuda")

    def refusal(self, site: Site) -> str:
        return _unlike(site) or self.hiding.refusal(site)

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        told, facts, projection = self.hiding.told(masks, site), site.facts, site.projection
        assert isinstance(projection, Projection)
        weight = add_initializer(writer.graph, "weights", projection.weight())
        offset = add_initializer(writer.graph, "biases", projection.bias())
        result = writer.node(
            site.node,
            "Attention",
            [projection.activation, weight, offset, told.keys, None, told.bias],
            FUSED,
            num_heads=facts.heads,
            scale=facts.scale,
            qkv_hidden_sizes=list(projection.widths),
            **told.attributes,  # type: ignore[arg-type]
        )
        return Results(alive_only(writer, site, result, told.alive), True)


@dataclass(frozen=True)
class PackedHeads:
    """`MultiHeadAttention(x @ w)` with queries, keys and values of a head side by side.

    The product is [batch, sequence, heads, 3, size]; the kernel for processors does not take it.
    """

    name: str
    hiding: Hiding
    providers: tuple[str, ...] = ("cuda",)

    def refusal(self, site: Site) -> str:
        if site.facts.size != site.facts.value_size:
            return "its values are of another size than its keys"
        return _unlike(site) or self.hiding.refusal(site)

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        told, facts, projection = self.hiding.told(masks, site), site.facts, site.projection
        assert isinstance(projection, Projection)
        result = writer.node(
            site.node,
            "MultiHeadAttention",
            [_by_heads(writer, site, projection), None, None, None, told.keys, told.bias],
            FUSED,
            num_heads=facts.heads,
            scale=facts.scale,
            **told.attributes,  # type: ignore[arg-type]
        )
        return Results(alive_only(writer, site, result, told.alive), True)


def _by_heads(writer: Writer, site: Site, projection: Projection) -> ir.Value:
    facts, node = site.facts, site.node
    weight = projection.weight_by_heads(facts.heads)
    operand = add_initializer(writer.graph, "weights", weight)
    whole = writer.node(node, "MatMul", [projection.activation, operand])
    if projection.biased:
        offset = projection.bias_by_heads(facts.heads)
        other = add_initializer(writer.graph, "biases", offset)
        whole = writer.node(node, "Add", [whole, other])
    shape = writer.integers(0, 0, facts.heads, 3, facts.size)
    return writer.node(node, "Reshape", [whole, shape])


def _unlike(site: Site) -> str:
    facts = site.facts
    if isinstance(site.projection, str):
        return site.projection
    if site.past is not None or facts.kept:
        return "it keeps keys and values"
    if facts.groups != facts.heads:
        return f"its {facts.heads} heads of queries share {facts.groups} of keys"
    return "its scores are bounded" if facts.cap else ""
