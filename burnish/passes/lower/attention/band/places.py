"""The attentions of a graph that are computed in blocks, put in place together."""

from __future__ import annotations

import onnx_ir as ir

from burnish.passes.lower.attention.band import branches
from burnish.passes.lower.attention.band.blocks import WrittenBlocks
from burnish.passes.lower.attention.band.choice import Banding
from burnish.passes.lower.attention.site import Results, Site, replace
from burnish.passes.lower.attention.writer import Writer


class Places:
    """Puts attentions in blocks in place, each behind a condition on the number of keys.

    All are written before the first is put in place: what they share moves behind the condition as
    well, and may not be read from elsewhere then.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._blocks = WrittenBlocks(writer)
        self._written: list[tuple[Site, Banding, Results, Results | None]] = []

    def put(self, site: Site, banding: Banding, other: Results | None) -> None:
        """Write an attention in blocks; `other` is its dense form, None where that never runs."""
        flat = site.facts.flat if other is None else other.flat
        results = banding.form.build(self._writer, self._blocks, site, banding.band, flat=flat)
        self._written.append((site, banding, results, other))

    def finish(self) -> list[int]:
        """Replace the attentions; the lengths past which they are computed in blocks."""
        writer, conditions = self._writer, dict[ir.Value, int]()
        for site, banding, results, other in self._written:
            if other is not None and banding.above is not None:
                condition = self._longer(site, banding.above)
                conditions[condition] = banding.above
                results = self._chosen(site, condition, results, other)
            replace(writer, site, results)
        for condition in conditions:
            branches.share(writer, condition)
        return list(conditions.values())

    def _longer(self, site: Site, above: int) -> ir.Value:
        _, keys = site.lengths(self._writer)
        limit, kind = self._writer.integers(above), ir.DataType.BOOL
        key = ("longer", keys, above)
        return self._writer.once(key, self._first(), "Greater", [keys, limit], kind)

    def _first(self) -> ir.Node:
        return self._written[0][0].node

    def _chosen(self, site: Site, condition: ir.Value, results: Results, other: Results) -> Results:
        pairs = [(results.result, other.result)]
        if results.present is not None and other.present is not None:
            pairs += zip(results.present, other.present, strict=True)
        result, *present = branches.choose(self._writer, site.node, condition, pairs)
        return Results(result, results.flat, (present[0], present[1]) if present else None)
