"""The form: each block of queries attends to the keys that its window reaches, and no others."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.band.band import Band
from burnish.passes.lower.attention.band.blocks import Banded, Blocks
from burnish.passes.lower.attention.products import all_keys
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class InBlocks:
    """`Softmax(q[blocks] @ k[reach] + bias) @ v[reach]`.

    Keys at both ends of a block's reach are gathered for two blocks or more; indices past the ends
    of a sequence are those of its first or last key, and hidden. Time and memory grow with
    queries * (window + block), whatever the length.

    Attributes:
        block: most queries in a block.
    """

    block: int

    @property
    def name(self) -> str:
        return f"blocks of {self.block}"

    def build(
        self, writer: Writer, shared: Banded, site: Site, band: Band, *, flat: bool
    ) -> Results:
        """Write it before the attention's node, with heads merged where `flat`."""
        facts, node = site.facts, site.node
        blocks = shared.blocks(site, band, self.block)
        query, (key, value) = site.query, all_keys(writer, site)
        present = key, value
        if facts.flat:
            query = writer.apart(node, query, facts.heads)
        rows = writer.node(node, "Gather", [query, blocks.queries], axis=2)
        keys, values = (
            writer.node(node, "Gather", [item, blocks.keys], axis=2) for item in present
        )
        result = Attended(writer, site, blocks).result(rows, keys, values, value)
        axis, start = writer.integers(2), writer.integers(band.first)
        result = writer.node(node, "Slice", [result, start, blocks.rows, axis])
        if blocks.first is not None:
            few = [writer.integers(0), blocks.first.rows, axis]
            rows = writer.node(node, "Slice", [query, *few])
            first = Attended(writer, site, blocks.first).result(rows, key, value)
            result = writer.node(node, "Concat", [first, result], axis=2)
        if flat:
            result = writer.together(node, result, facts.heads * facts.value_size)
        return Results(result, flat, present if facts.kept else None)


class Attended:
    """Writes the products of one attention in blocks; groups of heads share keys.

    They stand before a node, the attention's own where none is given.
    """

    def __init__(
        self, writer: Writer, site: Site, blocks: Blocks, before: ir.Node | None = None
    ) -> None:
        self._writer, self._site, self._blocks = writer, site, blocks
        self._before = before or site.node
        facts = site.facts
        self._grouped = facts.groups not in (1, facts.heads)

    def result(
        self, rows: ir.Value, keys: ir.Value, reach: ir.Value, values: ir.Value | None = None
    ) -> ir.Value:
        """The queries' results [batch, heads, blocks * block, size].

        `values` are all of them, where those in reach are not.
        """
        facts, blocks = self._site.facts, self._blocks
        heads = [facts.groups, facts.heads // facts.groups] if self._grouped else [facts.heads]
        shared = [facts.groups, 1] if self._grouped else [facts.groups]
        query = self._cut(rows, heads, blocks.block, facts.size)
        key = self._cut(keys, shared, blocks.span, facts.size)
        value = self._cut(reach, shared, blocks.span, facts.value_size)
        factor = facts.scale / facts.cap if facts.cap else facts.scale
        scores = self._node("FusedMatMul", query, key, domain=FUSED, transB=1, alpha=factor)
        if facts.cap:
            cap = self._writer.number(facts.cap)
            scores = self._node("Mul", self._node("Tanh", scores), cap)
        if blocks.bias is not None:
            scores = self._node("Add", scores, self._by_groups(blocks.bias))
        result = self._node("MatMul", self._node("Softmax", scores, axis=-1), value)
        if blocks.alive is not None:
            result = self._defined(result, values or reach)
        shape = self._writer.integers(0, facts.heads, -1, facts.value_size)
        return self._node("Reshape", result, shape)

    def _defined(self, result: ir.Value, values: ir.Value) -> ir.Value:
        """What queries without keys give is zero, or the mean of all values."""
        alive = self._by_groups(self._blocks.alive)
        if self._site.meaning.zero:
            return self._node("Where", alive, result, self._writer.number(0.0))
        mean = self._node("ReduceMean", values, self._writer.integers(2), keepdims=1)
        axes = (2, 3) if self._grouped else (2,)
        mean = self._node("Unsqueeze", mean, self._writer.integers(*axes))
        return self._node("Where", alive, result, mean)

    def _cut(self, value: ir.Value, heads: list[int], rows: ir.Value, size: int) -> ir.Value:
        """[batch, heads, blocks * rows, size] with blocks, and heads of groups, apart."""
        writer, node = self._writer, self._before
        parts = [writer.integers(0, *heads, -1), rows, writer.integers(size)]
        key = ("shape", *parts)
        shape = writer.once(key, node, "Concat", [*parts], axis=0)
        return self._node("Reshape", value, shape)

    def _by_groups(self, bias: ir.Value | None) -> ir.Value:
        """A bias with an axis for the heads of a group."""
        assert bias is not None
        if not self._grouped:
            return bias
        writer, node, facts = self._writer, self._before, self._site.facts
        key, kind = ("by group", bias), bias.dtype or ir.DataType.FLOAT
        if not self._blocks.by_head:
            return writer.once(key, node, "Unsqueeze", [bias, writer.integers(2)], kind)
        # Batch and heads stand first; the three axes behind stay as they are.
        tail = writer.once(("tail", bias), node, "Shape", [bias], start=2)
        lead = writer.once(("lead", bias), node, "Shape", [bias], start=0, end=1)
        middle = writer.integers(facts.groups, facts.heads // facts.groups)
        shape = writer.once(("split", bias), node, "Concat", [lead, middle, tail], axis=0)
        return writer.once(key, node, "Reshape", [bias, shape], kind)

    def _node(
        self, operator: str, *inputs: ir.Value, domain: str = "", **attributes: int | float
    ) -> ir.Value:
        return self._writer.node(
            self._before,
            operator,
            [*inputs],
            domain,
            **attributes,  # type: ignore[arg-type]
        )
