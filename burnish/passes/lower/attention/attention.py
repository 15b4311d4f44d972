"""Each attention takes the form that is measured fastest on the target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.analysis.repeated import repeated
from burnish.optimizer.analysis.shapes.concrete import Concrete
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import ROUNDING, Array, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.passes.lower.attention.bias import WrittenMasks
from burnish.passes.lower.attention.facts import Facts, facts_of
from burnish.passes.lower.attention.forms import FORMS, RULES, runs_operator
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.lower.attention.region import builder
from burnish.passes.lower.attention.sample import sample_of
from burnish.passes.lower.attention.site import Site, integers_of, replace, site_of
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class LowerAttention(Pass):
    """Write `Attention` as the operators that compute it fastest.

    Forms: the operator itself; two products and a softmax, with the scale in the first product,
    keys and values not repeated for groups of heads, and masks not repeated for queries; and ONNX
    Runtime's `MultiHeadAttention`, `GroupQueryAttention` and `Attention`, the last one together
    with the products that make queries, keys and values. A mask is a tensor that is added, or,
    where its meaning is proven, the operator's own causal limit and one number for each key.

    Before:
        `Attention(q, k, v, mask, past_key, past_value)`.
    After:
        `Softmax(FusedMatMul(q, k) + mask) @ v` of the past and new keys,
        `MultiHeadAttention(q, k, v, mask or padding, past)`,
        `GroupQueryAttention(q, k, v, past, lengths, mask)`, or
        `com.microsoft.Attention(x, [wq wk wv], [bq bk bv], mask or padding)`. The one that takes
        integers for the past, `GroupQueryAttention`, reads them itself.
    Refuses when:
        The operator is measured fastest, computes in another type than float32, gives its scores,
        or the shapes of its operands are not known. A form is none to choose where it cannot say
        exactly what the attention computes: a mask that is not proven to be a causal limit and a
        padding of keys is added as a tensor; `GroupQueryAttention` needs a causal limit.
    Numerics:
        Rounding. A query without keys gives zero, as before, or the mean where the mask hides by a
        finite number.
    """

    name = "attention-form"
    phase = Phase.LOWER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        nodes = [
            node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            if node.op_type == "Attention" and node.domain == ""
        ]
        if not nodes or context.provider not in RULES:
            return Outcome()
        shapes.annotate(model)
        sizes, tally = Concrete(model, context), Tally("attentions")
        sites = _sites(model, nodes, tally)
        # All choices first: what is read of the model is valid as long as nothing is changed.
        choices = [(site, _choose(site, sizes, context)) for site in sites]
        writers: dict[ir.Graph, tuple[Writer, WrittenMasks]] = {}
        for site, choice in choices:
            if not tally.takes(site.node, choice):
                continue
            graph = site.node.graph
            assert isinstance(graph, ir.Graph)
            if graph not in writers:
                writer = Writer(graph)
                writers[graph] = writer, WrittenMasks(writer)
            writer, masks = writers[graph]
            site = site.again()
            replace(writer, site, FORMS[choice.winner].build(writer, masks, site))
            if site.inner is not None:
                graph.sort()  # what converts the integers stands before what gives them now
        return tally.outcome(model, *FORMS)


def _sites(model: ir.Model, nodes: list[ir.Node], tally: Tally) -> list[Site]:
    products = {item.output: item for item in find_products(model)[0]}
    masks, sizes = Masks(), Sizes.of(model)
    sites = []
    for node in nodes:
        facts = facts_of(node)
        if isinstance(facts, Facts):
            site = site_of(node, facts, meaning_of(node, facts, masks), products)
            site = dataclasses.replace(site, windows=_windows(site, sizes))
            if (past := integers_of(node, facts)) is not None:
                meaning = meaning_of(node, facts, masks, past)
                inner = dataclasses.replace(site, past=past, meaning=meaning)
                site = dataclasses.replace(site, inner=inner)
            sites.append(site)
        else:
            tally.refuse(node, facts)
    return sites


def _windows(site: Site, sizes: Sizes) -> Array | None:
    """The mask as a constant for the windows of an image; None where it is not or there is one."""
    found = repeated(site.mask, sizes)
    if found is None or found.array.dtype != np.float32 or not np.isfinite(found.array).all():
        return None
    whole = found.array
    if whole.ndim != 4 or len(whole) < 2 or not found.slabs.open:
        return None
    # Nothing is repeated over the heads where the windows alone are told apart.
    return whole if (whole != whole[:, :1]).any() else whole[:, :1]


def _choose(site: Site, sizes: Concrete, context: Context) -> Choice:
    provider = context.provider
    forms = [AS_IT_IS] if runs_operator(provider, site) else []
    forms += [
        name
        for name, form in FORMS.items()
        if provider in form.providers and not form.refusal(site)
    ]
    rule = next(name for name in RULES[provider] if name in forms)
    sample = sample_of(site, sizes.of)
    if sample is None:
        return Choice(rule, 1.0, measured=False)
    entrants = {name: builder(sample, name) for name in forms}
    return context.choose(sample.key, entrants, rule)
