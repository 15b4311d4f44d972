"""Caches of a fixed capacity, which no run copies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.forms import FUSED
from burnish.optimizer.naming import Names
from burnish.optimizer.static_caches import POSITIONS, StaticCache
from burnish.passes.lower.attention.bias import WrittenMasks
from burnish.passes.lower.attention.facts import facts_of
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.lower.attention.products import attended
from burnish.passes.lower.attention.site import Past, Results, Site, replace, site_of
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class LowerStaticCache(Pass):
    """Read caches where they lie, and hand over what is new.

    A run that gives all keys and values copies those of the past, as long as that is: of 1.1
    billion parameters in 4 bits, behind 4,096 tokens, a quarter of the time of a token. In the
    artifact the past has any capacity, the mask tells which of its positions are used, and the
    outputs are the keys and values of the run's own tokens; see `optimizer.static_caches`.

    Before:
        `present = Concat(past, new)`, which `Attention` reads, or which it makes.
    After:
        `w = Softmax(Concat(q @ past_k, q @ new_k) + mask)`, `w[past] @ past_v + w[new] @ new_v`;
        in the artifact `present = new`.
    Refuses when:
        A mask says more than a causal limit and a padding that an input tells, since a window or a
        bias counts positions that are not used; positions are counted by the length of the past;
        anything else reads the past; or sizes are not known. All caches are taken, or none.
    Numerics:
        Rounding: sums of the past and of what is new are added. Feeds of the final check have
        unused positions behind the past.
    """

    name = "static-cache"
    phase = Phase.LOWER
    promise = ROUNDING
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        nodes = [node for node in model.graph if _is_attention(node)]
        shapes.annotate(model)
        masks = Masks()
        read = [(node, _read(node, masks)) for node in nodes]
        refusals = [Refusal(node.name or "", found) for node, found in read if type(found) is str]
        sites = [found for _, found in read if isinstance(found, Site)]
        refusals += _others(model, sites)
        if refusals or not sites:
            none = "" if refusals else "there is no cache"
            return Outcome(refusals=tuple(refusals), detail=none)
        writer, names = Writer(model.graph), Names(model.graph)
        written = WrittenMasks(writer)
        caches = [item for site in sites for item in _write(writer, written, site, names)]
        model.opset_imports[FUSED] = 1
        return Outcome(len(sites), detail=f"{len(caches)} caches", static=tuple(caches))


def _is_attention(node: ir.Node) -> bool:
    return node.op_type == "Attention" and node.domain == ""


def _read(node: ir.Node, masks: Masks) -> Site | str | None:
    """The site of an attention with a past; None where it has none, or why it is not taken."""
    facts = facts_of(node)
    if isinstance(facts, str):
        return facts
    meaning = meaning_of(node, facts, masks)
    site = site_of(node, facts, meaning, {})
    if site.past is None:
        return None
    if meaning.rest or not meaning.causal or meaning.padding is None:
        return meaning.rest or "its mask has no padding that could hide unused positions"
    if _mask_of(meaning.padding) is None:
        return "its padding is computed from more than one input"
    past, presents = site.past, site.presents
    for port, present in zip((past.key, past.value), presents, strict=True):
        if not port.is_graph_input() or not present.is_graph_output():
            return "its past is no input, or what it becomes no output"
        if port.shape is None or isinstance(port.shape[POSITIONS], int):
            return "its past has a fixed length"
    if any(_is_port(value) for value in (past.new_key, past.new_value)):
        return "its new keys or values are ports themselves"
    if past.new_key is past.new_value:
        return "its new keys are its new values, and two ports cannot be one value"
    return site


def _is_port(value: ir.Value) -> bool:
    return value.is_graph_input() or value.is_graph_output() or value.producer() is None


def _mask_of(padding: ir.Value) -> ir.Value | None:
    """The input that a padding is computed from."""
    inputs = {value for value in _sources(padding) if value.is_graph_input()}
    return inputs.pop() if len(inputs) == 1 else None


def _sources(value: ir.Value | None) -> set[ir.Value]:
    """What a value is computed from, itself included; sizes are from nothing."""
    seen, stack = set[ir.Value](), [value]
    while stack:
        item = stack.pop()
        if item is None or item in seen:
            continue
        seen.add(item)
        node = item.producer()
        stack += node.inputs if node is not None and node.op_type != "Shape" else ()
    return seen


def _others(model: ir.Model, sites: Iterable[Site]) -> list[Refusal]:
    """What else depends on the past, or on how long it is."""
    pasts = {value: site for site in sites for value in _ports(site.past)}
    refusals = []
    for past, site in pasts.items():
        own = {site.node, *(value.producer() for value in site.presents)}
        for reader in dict.fromkeys(use.node for use in past.uses()):
            if reader not in own and reader.op_type != "Shape":
                refusals.append(Refusal(reader.name or "", "it reads a past as well"))
    lengths = [use.node for past in pasts for use in past.uses() if use.node.op_type == "Shape"]
    masks = {_mask_of(site.meaning.padding) for site in sites if site.meaning.padding is not None}
    if (reached := _operand_of(lengths, masks)) is not None:
        reason = "positions are counted by the length of the past, not by the mask"
        refusals.append(Refusal(reached.name or "", reason))
    lone = {value.shape[POSITIONS] for value in pasts if value.shape is not None}
    for value in model.graph.inputs:
        sizes = tuple(value.shape or ())
        if value not in pasts and len(sizes) > POSITIONS and sizes[POSITIONS] in lone:
            refusals.append(Refusal(value.name or "", "it is as long as the past, and no cache"))
    return refusals


def _ports(past: Past | None) -> tuple[ir.Value, ...]:
    return (past.key, past.value) if past is not None else ()


def _operand_of(nodes: list[ir.Node], masks: Collection[ir.Value | None]) -> ir.Node | None:
    """An attention with operands, other than its mask, whose numbers depend on the nodes.

    What masks depend on is their own matter. Shapes hold no numbers, and a part that is cut from
    what is computed from the masks is the same part where those have unused positions.
    """
    stack, seen = list(nodes), set(nodes)
    while stack:
        for use in [use for value in stack.pop().outputs for use in value.uses()]:
            node = use.node
            if _is_attention(node) and use.idx != 3:
                return node
            shape = node.op_type in ("Reshape", "Expand") and use.idx == 1
            cut = node.op_type == "Slice" and use.idx > 0
            if shape or (cut and not _sources(node.inputs[0]).isdisjoint(masks)):
                continue
            if node not in seen and not _is_attention(node):
                seen.add(node)
                stack.append(node)
    return None


def _write(writer: Writer, masks: WrittenMasks, site: Site, names: Names) -> list[StaticCache]:
    """Replace an attention; its caches."""
    node, facts, past, padding = site.node, site.facts, site.past, site.meaning.padding
    assert past is not None and padding is not None
    mask = _mask_of(padding)
    assert mask is not None
    olds = (past.key, past.value)
    news = [past.new_key, past.new_value]
    if facts.flat:
        news = [writer.apart(node, value, facts.groups) for value in news]
    result = attended(writer, masks, site, [olds, (news[0], news[1])])
    present = None
    if not past.outside:
        joined = [
            writer.node(node, "Concat", [*pair], axis=POSITIONS)
            for pair in zip(olds, news, strict=True)
        ]
        present = (joined[0], joined[1])
    rows = site.query.shape[site.rows] if site.query.shape is not None else None
    made = []
    for old, new, port in zip(olds, news, site.presents, strict=True):
        new.name = new.name or names.free("new")
        size = rows if isinstance(rows, int) else getattr(rows, "value", None)
        made.append((old.name or "", port.name or "", new, mask.name or "", size))
    replace(writer, site, Results(result, facts.flat, present))
    return [
        StaticCache(past, port, new.name or "", mask, size) for past, port, new, mask, size in made
    ]
