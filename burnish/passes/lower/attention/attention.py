"""Each attention takes the form that is measured fastest on the target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.analysis.shapes.concrete import Concrete
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.passes.lower.attention.band.band import Band, Said, band_of, said_of
from burnish.passes.lower.attention.band.choice import Banding, banding_of
from burnish.passes.lower.attention.band.chunks import TOO_MANY, InChunks
from burnish.passes.lower.attention.band.places import Places
from burnish.passes.lower.attention.bias import WrittenMasks
from burnish.passes.lower.attention.facts import Facts, facts_of
from burnish.passes.lower.attention.forms import FORMS, RULES, runs_operator
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.lower.attention.region import builder
from burnish.passes.lower.attention.sample import sample_of
from burnish.passes.lower.attention.site import Results, Site, integers_of, replace, site_of
from burnish.passes.lower.attention.windows import windows_of
from burnish.passes.lower.attention.writer import Writer

CHUNKS = InChunks()


@dataclass(frozen=True)
class LowerAttention(Pass):
    """Write `Attention` as the operators that compute it fastest.

    Forms: the operator itself; two products and a softmax, with the scale in the first product,
    keys and values not repeated for groups of heads, and masks not repeated for queries; and ONNX
    Runtime's `MultiHeadAttention`, `GroupQueryAttention` and `Attention`, the last one together
    with the products that make queries, keys and values. A mask is a tensor that is added, or,
    where its meaning is proven, the operator's own causal limit and one number for each key. One
    that is the same for the windows of each image may be added as the constant that it is.

    A mask that is proven to leave each query a window of keys needs no scores of all queries with
    all keys: queries are taken in blocks, each with the keys that its window reaches, and what
    else the mask says is computed at those places only. Where the length is free, a condition on
    the number of keys keeps the form that was chosen without a window for the shorter ones.

    Before:
        `Attention(q, k, v, mask, past_key, past_value)`.
    After:
        `Softmax(FusedMatMul(q[blocks], k[reach]) + band) @ v[reach]`,
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
        finite number. Inputs longer than the condition's number are added to the check.
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
        choices = [(place, *_choose(place, sizes, context)) for place in sites]
        graphs: dict[ir.Graph, _Written] = {}
        for place, choice, banding in choices:
            site = place.site
            graph = site.node.graph
            assert isinstance(graph, ir.Graph)
            if isinstance(banding, str) and banding:
                tally.refuse(site.node, banding)
            taken = banding.choice if isinstance(banding, Banding) else choice
            if not tally.takes(site.node, taken):
                continue
            if graph not in graphs:
                graphs[graph] = _Written(graph)
            if isinstance(banding, Banding):
                graphs[graph].in_blocks(site.again(), choice.winner, banding)
            elif choice.winner == CHUNKS.name:
                assert isinstance(place.said, Said)
                graphs[graph].in_chunks(site.again(), place.said)
            else:
                graphs[graph].in_form(site.again(), choice.winner)
        lengths = {length for written in graphs.values() for length in written.finish()}
        blocks = [item.choice.winner for _, _, item in choices if isinstance(item, Banding)]
        own = (*FORMS, *blocks, CHUNKS.name)
        return tally.outcome(model, *own, lengths=tuple(sorted(lengths)))


@dataclass(frozen=True)
class _Place:
    """An attention whose operands are known, with what its mask says and its band, or why not."""

    site: Site
    said: Said | str
    band: Band | str


class _Written:
    """Writes the attentions of one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._writer = Writer(graph)
        self._masks = WrittenMasks(self._writer)
        self._places = Places(self._writer)
        self._lengths: set[int] = set()

    def in_form(self, site: Site, form: str) -> None:
        """Replace an attention by one of the forms."""
        replace(self._writer, site, FORMS[form].build(self._writer, self._masks, site))
        if site.inner is not None:
            # What converts the integers stands before what gives them now.
            self._writer.graph.sort()

    def in_blocks(self, site: Site, dense: str, banding: Banding) -> None:
        """Write an attention in blocks, beside its dense form where that may be the faster one."""
        other = None
        if banding.above is not None and dense in FORMS:
            other = FORMS[dense].build(self._writer, self._masks, site)
        elif banding.above is not None:
            other = self._as_it_is(site)
        self._places.put(site, banding, other)

    def in_chunks(self, site: Site, said: Said) -> None:
        """Write an attention as a loop over its queries."""
        self._lengths.add(CHUNKS.longest(site))
        replace(self._writer, site, CHUNKS.build(self._writer, site, said))

    def _as_it_is(self, site: Site) -> Results:
        node, facts = site.node, site.facts
        attributes = list(node.attributes.values())
        same = ir.Node("", node.op_type, node.inputs, attributes, num_outputs=len(node.outputs))
        self._writer.graph.insert_before(node, same)
        for new, old in zip(same.outputs, node.outputs, strict=True):
            new.type, new.shape = old.type, old.shape
        present = (same.outputs[1], same.outputs[2]) if facts.kept else None
        return Results(same.outputs[0], facts.flat, present)

    def finish(self) -> set[int]:
        """Replace what stands in blocks; the lengths past which inputs take another way."""
        return self._lengths | {*self._places.finish()}


def _sites(model: ir.Model, nodes: list[ir.Node], tally: Tally) -> list[_Place]:
    """The attentions whose operands are known."""
    products = {item.output: item for item in find_products(model)[0]}
    masks, sizes = Masks(), Sizes.of(model)
    sites = []
    for node in nodes:
        facts = facts_of(node)
        if isinstance(facts, Facts):
            meaning = meaning_of(node, facts, masks)
            site = site_of(node, facts, meaning, products)
            site = dataclasses.replace(site, windows=windows_of(site.mask, sizes))
            said = said_of(node, facts, masks, zero=meaning.zero, full=meaning.sees_itself)
            band = band_of(node, facts, masks, said)
            if (past := integers_of(node, facts)) is not None:
                meaning = meaning_of(node, facts, masks, past)
                inner = dataclasses.replace(site, past=past, meaning=meaning)
                site = dataclasses.replace(site, inner=inner)
            sites.append(_Place(site, said, band))
        else:
            tally.refuse(node, facts)
    return sites


def _choose(place: _Place, sizes: Concrete, context: Context) -> tuple[Choice, Banding | str]:
    """The form of an attention, and how it is computed in blocks, or why it is not."""
    provider, site = context.provider, place.site
    forms = [AS_IT_IS] if runs_operator(provider, site) else []
    forms += [
        name
        for name, form in FORMS.items()
        if provider in form.providers and not form.refusal(site)
    ]
    rule = next(name for name in RULES[provider] if name in forms)
    sample = sample_of(site, sizes.of)
    if sample is None:
        return Choice(rule, 1.0, measured=False), ""
    whole = sample.scores * 4 > TOO_MANY
    if whole and isinstance(place.band, str) and isinstance(place.said, Said) and not site.inner:
        return Choice(CHUNKS.name, 1.0, measured=False), ""
    small = sample
    if whole:
        small = sample.resized(sample.batch, sample.rows, sample.keys, sample.past)
    entrants = {name: builder(small, name) for name in forms}
    choice = context.choose(small.key, entrants, rule)
    if isinstance(place.band, str):
        return choice, ""
    return choice, banding_of(site, place.band, sample, forms, choice.winner, context)
