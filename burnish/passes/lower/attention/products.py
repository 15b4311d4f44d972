"""An attention as its two products and a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer

Part = tuple[ir.Value, ir.Value]
"""Keys and values [batch, groups, keys, size]."""


@dataclass(frozen=True)
class Products:
    """`Softmax(FusedMatMul(q, k) + mask) @ v`, keys and values not repeated for groups of heads.

    The heads of a group are rows of one product [batch, groups, heads of a group * rows, size], so
    that their keys are read once for all of them: of one new token behind 4,096, eight heads in a
    group, that took a third of the operator's time.
    """

    name: str = "products"
    providers: tuple[str, ...] = ("cpu", "cuda", "openvino")

    def refusal(self, site: Site) -> str:
        return ""

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        keys = all_keys(writer, site)
        result = attended(writer, masks, site, [keys])
        return Results(result, site.facts.flat, keys if site.facts.kept else None)


def all_keys(writer: Writer, site: Site) -> Part:
    """All keys and values, those of the past included."""
    facts, node, past = site.facts, site.node, site.past
    found = []
    for index, operand in enumerate(node.inputs[1:3]):
        assert operand is not None
        value = writer.apart(node, operand, facts.groups) if facts.flat else operand
        if past is not None and not past.outside:
            before = (past.key, past.value)[index]
            value = writer.node(node, "Concat", [before, value], axis=2)
        found.append(value)
    return found[0], found[1]


def attended(writer: Writer, masks: Masks, site: Site, parts: Sequence[Part]) -> ir.Value:
    """What queries gather from keys that lie in one piece or in several, in order.

    Several pieces are not joined: their scores are, which are fewer.
    """
    facts, node, query = site.facts, site.node, site.query
    if facts.flat:
        query = writer.apart(node, query, facts.heads)
    bias = masks.bias(site)
    grouped = facts.groups != facts.heads
    if grouped:
        rows = writer.integers(0, facts.groups, -1, facts.size)
        query = writer.node(node, "Reshape", [query, rows])
    scores = [_scores(writer, site, query, key) for key, _ in parts]
    weights = scores[0] if len(parts) == 1 else writer.node(node, "Concat", [*scores], axis=-1)
    added = bias.added
    if added is not None and grouped:
        weights = _softmax_in_groups(writer, site, weights, added)
    else:
        weights = _softmax(writer, node, weights, added)
    result = _gathered(writer, node, weights, [value for _, value in parts])
    if grouped:
        heads = writer.integers(0, facts.heads, -1, facts.value_size)
        result = writer.node(node, "Reshape", [result, heads])
    if bias.alive is not None:
        result = writer.node(node, "Mul", [result, bias.alive])
    return writer.together(node, result, facts.heads * facts.value_size) if facts.flat else result


def _scores(writer: Writer, site: Site, query: ir.Value, key: ir.Value) -> ir.Value:
    facts, node = site.facts, site.node
    factor = facts.scale / facts.cap if facts.cap else facts.scale
    scores = writer.node(node, "FusedMatMul", [query, key], FUSED, transB=1, alpha=factor)
    if not facts.cap:
        return scores
    scores = writer.node(node, "Tanh", [scores])
    return writer.node(node, "Mul", [scores, writer.number(facts.cap)])


def _softmax(writer: Writer, node: ir.Node, scores: ir.Value, added: ir.Value | None) -> ir.Value:
    if added is not None:
        scores = writer.node(node, "Add", [scores, added])
    return writer.node(node, "Softmax", [scores], axis=-1)


def _softmax_in_groups(writer: Writer, site: Site, scores: ir.Value, added: ir.Value) -> ir.Value:
    """Of scores [batch, groups, heads of a group * rows, keys]; what is added tells heads apart."""
    facts, node, kind = site.facts, site.node, ir.DataType.INT64
    rows = writer.length(node, *site.places[0])
    lead = writer.integers(0, facts.groups, facts.heads // facts.groups)
    key = ("heads of a group", lead, rows)
    inputs: list[ir.Value | None] = [lead, rows, writer.integers(-1)]
    apart = writer.once(key, node, "Concat", inputs, kind, axis=0)
    together = writer.node(node, "Shape", [scores], kind=kind)
    scores = writer.node(node, "Reshape", [scores, apart])
    weights = _softmax(writer, node, scores, _apart(writer, site, added))
    return writer.node(node, "Reshape", [weights, together])


def _gathered(
    writer: Writer, node: ir.Node, weights: ir.Value, values: Sequence[ir.Value]
) -> ir.Value:
    if len(values) == 1:
        return writer.node(node, "MatMul", [weights, values[0]])
    lengths = [writer.length(node, value, 2) for value in values]
    sizes = writer.once(("sizes", *lengths), node, "Concat", [*lengths], axis=0)
    kind = ir.DataType.FLOAT
    parts = writer.nodes(node, "Split", [weights, sizes], len(values), "", kind, axis=-1)
    products = [
        writer.node(node, "MatMul", [part, value])
        for part, value in zip(parts, values, strict=True)
    ]
    return writer.node(node, "Sum", [*products])


def _apart(writer: Writer, site: Site, item: ir.Value) -> ir.Value:
    """What is added, with an axis for the heads of a group."""
    facts, node = site.facts, site.node
    assert item.shape is not None
    if len(item.shape) < 3 or item.shape[-3] != facts.heads:
        return writer.node(node, "Unsqueeze", [item, writer.integers(-3)])
    kind = ir.DataType.INT64
    tail = writer.node(node, "Shape", [item], kind=kind, start=-2)
    lead = writer.integers(-1, facts.groups, facts.heads // facts.groups)
    target = writer.node(node, "Concat", [lead, tail], kind=kind, axis=0)
    return writer.node(node, "Reshape", [item, target])
