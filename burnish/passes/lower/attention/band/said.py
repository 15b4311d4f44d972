"""What a mask says, written at given queries and keys."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks.rewrite import axes
from burnish.optimizer.analysis.masks.terms import TRUE, ZERO, Term
from burnish.passes.lower.attention.band.band import Said
from burnish.passes.lower.attention.band.written import BOOL, FLOAT, INT64, WrittenTerms
from burnish.passes.lower.attention.bias import FLOOR
from burnish.passes.lower.attention.site import Site
from burnish.passes.lower.attention.writer import Writer


class WrittenSaid:
    """Writes what a mask says before a node: the attention's own, where none is given."""

    def __init__(
        self, writer: Writer, site: Site, said: Said, before: ir.Node | None = None
    ) -> None:
        self._writer, self._site, self._said = writer, site, said
        self._before = before or site.node

    def at(
        self, query: ir.Value, key: ir.Value, term: Term, near: ir.Value | None = None
    ) -> tuple[ir.Value | None, ir.Value | None]:
        """What is added to scores (None for nothing), and whether queries see keys (None: all do).

        Both are of five axes: batch or 1, heads or 1, blocks, queries, keys (1 for the second).

        Args:
            query: indices [blocks or 1, queries, 1].
            key: indices [blocks or 1, 1, keys].
            term: what must hold for a key to be seen.
            near: what must hold besides, as a value.
        """
        said, writer = self._said, self._writer
        if term is TRUE and near is None and said.bias is ZERO:
            return None, None
        used = axes(term) | axes(said.bias)
        positions = {"query": query, "key": key} | self._outer(used)
        terms = WrittenTerms(writer, self._before, positions, said.sizes)
        parts = [near] if near is not None else []
        parts += [terms.value(term)] if term is not TRUE or not parts else []
        seen = functools.reduce(lambda one, other: self._emit("And", [one, other], BOOL), parts)
        added = writer.number(0.0) if said.bias is ZERO else terms.number(said.bias)
        bias = self._emit("Where", [seen, added, writer.number(FLOOR)], FLOAT)
        missing = 0 if "batch" in used else 1 if "head" in used else 2
        bias = self._whole(bias, missing)
        if said.full:
            return bias, None
        numbers = self._emit("Cast", [seen], FLOAT, to=FLOAT.value)
        most = self._emit("ReduceMax", [numbers, writer.integers(-1)], FLOAT, keepdims=1)
        return bias, self._whole(self._emit("Cast", [most], BOOL, to=BOOL.value), missing)

    def _outer(self, used: frozenset[int | str]) -> dict[str, ir.Value]:
        """Positions along the axes in front, where they are needed."""
        writer, found = self._writer, dict[str, ir.Value]()
        if "batch" in used:
            length = writer.length(self._before, self._site.query, 0)
            count = self._emit("Squeeze", [length], INT64)
            zero, one = (writer.constant("number", np.array(item)) for item in (0, 1))
            batch = self._emit("Range", [zero, count, one], INT64)
            found["batch"] = self._emit("Unsqueeze", [batch, writer.integers(1, 2, 3, 4)], INT64)
        if "head" in used:
            heads = np.arange(self._site.facts.heads).reshape(-1, 1, 1, 1)
            found["head"] = writer.constant("heads", heads)
        return found

    def _whole(self, value: ir.Value, missing: int) -> ir.Value:
        """A value with the axes in front that it lacks."""
        if missing:
            axes = self._writer.integers(*range(missing))
            value = self._emit("Unsqueeze", [value, axes], value.dtype or FLOAT)
        value.shape = ir.Shape([None] * 5)
        return value

    def _emit(
        self, operator: str, inputs: list[ir.Value], kind: ir.DataType, **attributes: int
    ) -> ir.Value:
        key = (operator, *inputs, kind, *attributes.items())
        return self._writer.once(key, self._before, operator, [*inputs], kind, **attributes)
