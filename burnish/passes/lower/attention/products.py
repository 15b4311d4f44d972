"""An attention as its two products and a softmax."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.bias import Bias, Masks
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class Products:
    """`Softmax(FusedMatMul(q, k) + mask) @ v`, keys and values not repeated for groups of heads."""

    name: str = "products"
    providers: tuple[str, ...] = ("cpu", "cuda", "openvino")

    def refusal(self, site: Site) -> str:
        return ""

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        facts, node = site.facts, site.node
        query, (key, value) = site.query, all_keys(writer, site)
        present = key, value
        if facts.flat:
            query = writer.apart(node, query, facts.heads)
        bias = masks.bias(site)
        grouped = facts.groups not in (1, facts.heads)
        if grouped:
            shape = writer.integers(0, facts.groups, facts.heads // facts.groups, -1, facts.size)
            query = writer.node(node, "Reshape", [query, shape])
            axis = writer.integers(2)
            key, value = (writer.node(node, "Unsqueeze", [item, axis]) for item in (key, value))
            bias = _by_groups(writer, site, bias)
        result = _attended(writer, site, (query, key, value), bias)
        if grouped:
            shape = writer.integers(0, facts.heads, -1, facts.value_size)
            result = writer.node(node, "Reshape", [result, shape])
        if facts.flat:
            result = writer.together(node, result, facts.heads * facts.value_size)
        return Results(result, facts.flat, present if facts.kept else None)


def all_keys(writer: Writer, site: Site) -> tuple[ir.Value, ir.Value]:
    """All keys and values [batch, groups, keys, size], those of the past included."""
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


def _attended(
    writer: Writer, site: Site, operands: tuple[ir.Value, ir.Value, ir.Value], bias: Bias
) -> ir.Value:
    facts, node = site.facts, site.node
    query, key, value = operands
    factor = facts.scale / facts.cap if facts.cap else facts.scale
    scores = writer.node(node, "FusedMatMul", [query, key], FUSED, transB=1, alpha=factor)
    if facts.cap:
        scores = writer.node(node, "Tanh", [scores])
        scores = writer.node(node, "Mul", [scores, writer.number(facts.cap)])
    if bias.added is not None:
        scores = writer.node(node, "Add", [scores, bias.added])
    weights = writer.node(node, "Softmax", [scores], axis=-1)
    result = writer.node(node, "MatMul", [weights, value])
    if bias.alive is not None:
        result = writer.node(node, "Mul", [result, bias.alive])
    return result


def _by_groups(writer: Writer, site: Site, bias: Bias) -> Bias:
    """A bias with an axis for the heads of a group."""
    parts = [_apart(writer, site, item) for item in (bias.added, bias.alive)]
    return Bias(parts[0], parts[1])


def _apart(writer: Writer, site: Site, item: ir.Value | None) -> ir.Value | None:
    if item is None:
        return None
    facts, node = site.facts, site.node
    assert item.shape is not None
    if len(item.shape) < 3 or item.shape[-3] != facts.heads:
        return writer.node(node, "Unsqueeze", [item, writer.integers(-3)])
    kind = ir.DataType.INT64
    tail = writer.node(node, "Shape", [item], kind=kind, start=-2)
    lead = writer.integers(-1, facts.groups, facts.heads // facts.groups)
    target = writer.node(node, "Concat", [lead, tail], kind=kind, axis=0)
    return writer.node(node, "Reshape", [item, target])
