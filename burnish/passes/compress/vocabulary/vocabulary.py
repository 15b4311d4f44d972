"""Tokens that are not needed leave the embedding and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.passes.compress.vocabulary.cuts import Refused
from burnish.passes.compress.vocabulary.plan import plan
from burnish.passes.compress.vocabulary.rewrite import Rewriter

NOT_HERE = "no input takes ids of tokens"


@dataclass(frozen=True)
class Vocabulary(Pass):
    """Keep the rows and columns of some tokens only.

    Tokens of languages that a model is not used for are most of a multilingual embedding (Abdaoui
    et al. 2020, arXiv:2010.05609). Which to keep, `optimizer.vocabulary` says; the tokenizer is
    rewritten beside this pass. In the artifact the new ids, in the order of the old ones, are the
    ports; within a compilation models take the old ones; see `optimizer.renumbering`.

    Before:
        `Gather(table, ids)` with a row for each token; `MatMul(x, head)` with a column for each, or
        with the table itself; a bias; also int8, blocks of few bits, and their scales. Constants
        that are compared with ids.
    After:
        The same with fewer rows and columns. With `keep_ids` the ids and the logits stay as they
        were: `Gather(table, Gather(places, ids))`, where a token that is cut has the place of
        `unknown`, or (where that is none) no place, so that the run fails; and
        `Where(kept, Gather(logits, places), -inf)`.
    Refuses when:
        Something takes ids for numbers (sums, hashes), or reads them in a branch or a loop;
        something else reads the table; logits go through a softmax or a choice of the largest; an
        output has about as many classes and comes from no product; the tokenizer has more tokens
        than the table rows.
    Numerics:
        Rounding; rows are the same, products have fewer columns. Logits of cut tokens are minus
        infinity, or (in the artifact, without `keep_ids`) there are none.
    """

    kept: tuple[int, ...] = ()
    keep_ids: bool = False
    unknown: int = -1

    name = "vocabulary"
    phase = Phase.COMPRESS
    promise = ROUNDING
    asked = True
    lasting = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        numbers = Numbers(self.kept)
        shapes.annotate(model)
        try:
            found = plan(model, numbers, keep_ids=self.keep_ids) if self.kept else None
        except Refused as refused:
            return Outcome(refusals=(Refusal(refused.node, refused.reason),))
        if found is None:
            return Outcome(detail=NOT_HERE)
        rows, kept = found.cuts.rows, found.cuts.kept
        if len(kept) == rows:
            return Outcome(detail=f"all {rows} tokens are kept")
        place = int(np.searchsorted(kept, self.unknown)) if self.unknown in self.kept else len(kept)
        undefined, renumbering = Rewriter(model, found, self.keep_ids, place).write()
        lookups, heads = len(found.lookups), len(found.heads)
        detail = f"{len(kept)} of {rows} tokens: {lookups} lookups, {heads} heads"
        return Outcome(lookups + heads, detail=detail, undefined=undefined, renumbering=renumbering)

    def options(self) -> dict[str, Any]:
        """The options by name; the ids as a count and a fingerprint."""
        kept = {"tokens": len(self.kept), "sha256": Numbers(self.kept).digest}
        return {"kept": kept, "keep_ids": self.keep_ids, "unknown": self.unknown}
