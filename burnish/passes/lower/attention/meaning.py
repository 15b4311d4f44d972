"""What an attention's mask means, as far as operators can be told without a tensor."""

from __future__ import annotations

import math

import onnx_ir as ir

from burnish.optimizer.analysis.masks import Causal, KeyPadding, Mask, Masks, Window
from burnish.optimizer.analysis.masks.sizes import declared
from burnish.optimizer.analysis.masks.terms import ZERO, Term, minus
from burnish.optimizer.analysis.matching import optional, rank, written_size
from burnish.passes.lower.attention.bias import FLOOR, kills_rows
from burnish.passes.lower.attention.facts import Facts
from burnish.passes.lower.attention.site import Meaning, Past, past_of

UNALIGNED = "it is causal, but its queries are not proven to be the last of its keys"


def meaning_of(node: ir.Node, facts: Facts, masks: Masks) -> Meaning:
    """The meaning of the mask of an attention together with its causal limit."""
    past = past_of(node, facts)
    limited = facts.causal and (past is None or not past.outside) and _as_many(node, facts, past)
    rest = UNALIGNED if facts.causal and not limited else ""
    value = optional(node, 3)
    if value is None:
        return Meaning(causal=limited, rest=rest, level=FLOOR)
    mask = masks.of(value)
    zero = kills_rows(value)
    reader = _Reader(node, facts, past, mask)
    found = [reader.clause(clause) for clause in mask.clauses]
    rest = rest or _not_said(mask, zero=zero) or next(filter(None, found), "")
    return Meaning(
        limited or reader.causal,
        reader.padding,
        rest,
        FLOOR if zero else min(mask.levels, default=FLOOR),
        zero,
        reader.sees_itself and not mask.assumed,
    )


def _as_many(node: ir.Node, facts: Facts, past: Past | None) -> bool:
    """Whether there are as many queries as new keys."""
    axis = 1 if facts.flat else 2
    query, key = node.inputs[0], node.inputs[1] if past is None else past.new_key
    assert query is not None and key is not None
    return written_size(query, axis) == written_size(key, axis)


def _not_said(mask: Mask, *, zero: bool) -> str:
    """What of a mask no operator takes but as a tensor."""
    if mask.opaque:
        return f"its mask is not understood at {mask.opaque[0].node} ({mask.opaque[0].reason})"
    if mask.assumed:
        return f"its mask is known only if {', '.join(mask.assumed)}"
    if mask.biases:
        return f"its mask adds numbers: {mask}"
    if len(mask.levels) > 1 or (zero and any(map(math.isfinite, mask.levels))):
        return "its mask hides keys by several numbers"
    return ""


class _Reader:
    """Reads the clauses of one mask."""

    def __init__(self, node: ir.Node, facts: Facts, past: Past | None, mask: Mask) -> None:
        self._node, self._facts, self._past, self._mask = node, facts, past, mask
        self.causal = False
        self.padding: ir.Value | None = None
        self.sees_itself = True

    def clause(self, clause: object) -> str:
        """Take a clause in; why it is more than a causal limit or a padding of keys."""
        if isinstance(clause, Causal) and self._last(clause.offset):
            self.causal = True
            return ""
        if isinstance(clause, Causal):
            self.sees_itself = False
            return UNALIGNED
        if isinstance(clause, Window) and self._last(clause.offset):
            self.causal |= clause.right is ZERO
            self.sees_itself &= all(map(_forward, (clause.left, clause.right)))
            return f"its mask has a {clause}"
        self.sees_itself = False
        if isinstance(clause, KeyPadding) and clause.orientation == "key" and not self.padding:
            self.padding = self._exists(clause.test)
            return "" if self.padding is not None else f"its padding {clause} is no input of keys"
        return f"its mask is {clause}"

    def _last(self, offset: Term) -> bool:
        """Whether the queries are the last of the keys, where the first stands at `offset`."""
        if not _as_many(self._node, self._facts, self._past):
            return False
        if self._past is None:
            return offset is ZERO
        sizes = declared(self._past.key)
        grid = self._mask.grid
        extents = [item.args[0] for item in (grid.key, grid.query) if item.op == "index"]
        known = sizes is not None and offset is sizes[2]
        return known or (len(extents) == 2 and offset is minus(*extents))

    def _exists(self, test: Term) -> ir.Value | None:
        """The value [batch, keys] that is not 0 where a key exists; None where there is none."""
        if test.op == "not" and test.args[0].op == "zero":
            test = test.args[0].args[0]
        places = test.args
        if test.op != "lookup" or len(places) != 2 or len(self._mask.positions) < 2:
            return None
        value, key = test.value, self._mask.grid.key
        row, column = places
        if column is not key or row.op != "index" or row.value != "batch" or rank(value) != 2:
            return None
        query, mask = self._node.inputs[0], self._mask.value
        assert query is not None
        same = written_size(value, 0) == written_size(query, 0) and (
            written_size(value, 1) == written_size(mask, rank(mask) - 1)
        )
        return value if same and written_size(mask, rank(mask) - 1) != 1 else None


def _forward(side: Term | None) -> bool:
    return side is None or (side.op == "const" and side.value >= 0)
