"""Queries in blocks, and for each block the keys that its window reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from burnish.passes.lower.attention.band.band import Band
from burnish.passes.lower.attention.band.said import WrittenSaid
from burnish.passes.lower.attention.band.written import BOOL, INT64, WrittenTerms
from burnish.passes.lower.attention.site import Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class Blocks:
    """What layers with the same window share.

    Attributes:
        queries: index of the query at each place of each block, [blocks * block].
        keys: index of the key at each place that a block reaches, [blocks * span].
        block, span: sizes of these, [1] each.
        rows: number of queries, [1].
        bias: what is added to the scores, [batch or 1, heads or 1, blocks, block, span]; None for
            nothing.
        alive: whether a query sees a key, [batch or 1, heads or 1, blocks, block, 1]; None where
            all do.
        by_head: whether the bias has an axis for heads.
        first: one block of the first queries, where those see keys far away as well.
    """

    queries: ir.Value
    keys: ir.Value
    block: ir.Value
    span: ir.Value
    rows: ir.Value
    bias: ir.Value | None
    alive: ir.Value | None
    by_head: bool
    first: Blocks | None = None


class Banded(Protocol):
    """Makes the blocks that an attention is computed in."""

    def blocks(self, site: Site, band: Band, block: int) -> Blocks:
        """Blocks of so many queries, or of all where there are fewer."""
        ...


class WrittenBlocks:
    """The blocks of a graph's attentions, each kind written once, before the first of them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._made: dict[tuple[object, ...], Blocks] = {}

    def blocks(self, site: Site, band: Band, block: int) -> Blocks:
        rows, keys = site.lengths(self._writer)
        key = (rows, keys, block, *band.parts, site.facts.heads if band.by_head else 0)
        if key not in self._made:
            self._made[key] = _Layout(self._writer, site, band, block).written(rows, keys)
        return self._made[key]


class _Layout:
    """Writes one kind of blocks. Axes stand in the order batch, head, block, query, key."""

    def __init__(self, writer: Writer, site: Site, band: Band, block: int) -> None:
        self._writer, self._site, self._band = writer, site, band
        self._most = block
        self._said = WrittenSaid(writer, site, band)

    def written(self, rows: ir.Value, keys: ir.Value) -> Blocks:
        band, writer = self._band, self._writer
        one = writer.integers(1)
        block = self._whole("Min", rows, writer.integers(self._most))
        above = self._whole("Sub", self._whole("Add", rows, block), one)
        count = self._whole("Div", above, block)
        span = self._whole("Add", block, writer.integers(band.left + band.right))
        starts = self._apart(self._whole("Mul", self._range(count), block), 1, 2)
        within = self._apart(self._range(block), 1)
        query = self._whole("Min", self._whole("Add", starts, within), self._last(rows))
        key, near = self._reach(starts, within, span, keys)
        if band.sinks:
            key, near = self._with_sinks(key, near, self._whole("Concat", count, block, axis=0))
            span = self._whole("Add", span, writer.integers(band.sinks))
        bias, alive = self._said.at(query, key, band.seen, near)
        flat = [self._node("Reshape", [item, writer.integers(-1)], INT64) for item in (query, key)]
        first = self._first(keys) if band.first else None
        return Blocks(flat[0], flat[1], block, span, rows, bias, alive, band.by_head, first)

    def _reach(
        self, starts: ir.Value, within: ir.Value, span: ir.Value, keys: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The keys that blocks reach [blocks, 1, span], and whether each is in the window."""
        band, across = self._band, self._range(span)
        place = WrittenTerms(self._writer, self._site.node, {}, band.sizes).value(band.offset)
        first = self._whole("Sub", place, self._number(band.left))
        reached = self._whole("Add", self._whole("Add", starts, across), first)
        key = self._whole("Max", reached, self._number(band.sinks))
        key = self._whole("Min", key, self._last(keys))
        last = self._whole("Add", within, self._number(band.left + band.right))
        near = self._truth("LessOrEqual", within, across)
        near = self._truth("And", near, self._truth("LessOrEqual", across, last))
        return key, self._truth("And", near, self._truth("Equal", reached, key))

    def _with_sinks(
        self, key: ir.Value, near: ir.Value, sizes: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The first keys of the sequence before those that each block reaches."""
        writer, sinks = self._writer, self._band.sinks
        count = self._node("Slice", [sizes, writer.integers(0), writer.integers(1)], INT64)
        one, last = writer.integers(1), writer.integers(sinks)
        few = writer.constant("sinks", np.arange(sinks).reshape(1, 1, -1))
        few = self._whole("Expand", few, self._whole("Concat", count, one, last, axis=0))
        always = writer.constant("always", np.ones((1, 1, 1), bool))
        always = self._truth("Expand", always, self._whole("Concat", sizes, last, axis=0))
        near = self._node("Concat", [always, near], BOOL, axis=-1)
        return self._whole("Concat", few, key, axis=-1), near

    def _first(self, keys: ir.Value) -> Blocks:
        """One block of the first queries, which all keys are in reach of."""
        writer, count = self._writer, self._band.first
        query = writer.constant("first", np.arange(count).reshape(1, -1, 1))
        key = self._apart(self._range(keys), 0, 1)
        bias, alive = self._said.at(query, key, self._band.whole)
        rows = writer.integers(count)
        return Blocks(query, key, rows, keys, rows, bias, alive, self._band.by_head)

    def _range(self, length: ir.Value) -> ir.Value:
        limit = self._node("Squeeze", [length], INT64)
        return self._node("Range", [self._number(0), limit, self._number(1)], INT64)

    def _last(self, length: ir.Value) -> ir.Value:
        return self._whole("Sub", length, self._writer.integers(1))

    def _apart(self, value: ir.Value, *axes: int) -> ir.Value:
        return self._node("Unsqueeze", [value, self._writer.integers(*axes)], value.dtype)

    def _number(self, number: int) -> ir.Value:
        return self._writer.constant("number", np.array(number, np.int64))

    def _whole(self, operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        return self._node(operator, list(inputs), INT64, **attributes)

    def _truth(self, operator: str, *inputs: ir.Value) -> ir.Value:
        return self._node(operator, list(inputs), BOOL)

    def _node(
        self, operator: str, inputs: list[ir.Value], kind: ir.DataType | None, **attributes: int
    ) -> ir.Value:
        assert kind is not None
        key = (operator, *inputs, kind, *attributes.items())
        before = self._site.node
        return self._writer.once(key, before, operator, [*inputs], kind, **attributes)
