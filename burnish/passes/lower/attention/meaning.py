"""What an attention's mask means, as far as operators can be told without a tensor."""

from __future__ import annotations

import math

import onnx_ir as ir

from burnish.optimizer.analysis.masks import Alibi, Causal, KeyPadding, Mask, Masks, Window
from burnish.optimizer.analysis.masks.sizes import declared
from burnish.optimizer.analysis.masks.terms import ZERO, Term, add, minus
from burnish.optimizer.analysis.matching import optional, rank, written_size
from burnish.passes.lower.attention.bias import FLOOR, kills_rows
from burnish.passes.lower.attention.facts import Facts
from burnish.passes.lower.attention.site import Meaning, Past, past_of

UNALIGNED = "it is causal, but its queries are not proven to be the last of its keys"


def meaning_of(node: ir.Node, facts: Facts, masks: Masks, integers: Past | None = None) -> Meaning:
    """The meaning of the mask of an attention together with its causal limit.

    Its past is the one given, or that of `past_of`.
    """
    past = integers or past_of(node, facts)
    limited = facts.causal and (past is None or not past.outside) and _as_many(node, facts, past)
    rest = UNALIGNED if facts.causal and not limited else ""
    value = optional(node, 3)
    if value is None:
        return Meaning(causal=limited, rest=rest, level=FLOOR)
    mask = masks.of(value)
    zero = kills_rows(value)
    reader = _Reader(node, facts, past, mask)
    found = [reader.clause(clause) for clause in mask.clauses]
    unproven = [text for text in mask.assumed if text not in reader.discharged]
    rest = rest or _not_said(mask, unproven, zero=zero) or next(filter(None, found), "")
    return Meaning(
        limited or reader.causal or _alone(node, facts, past),
        reader.padding,
        rest,
        FLOOR if zero else min(mask.levels, default=FLOOR),
        zero,
        reader.sees_itself and not unproven and len(mask.all(Alibi)) == len(mask.biases),
    )


def _as_many(node: ir.Node, facts: Facts, past: Past | None) -> bool:
    """Whether there are as many queries as new keys."""
    axis = 1 if facts.flat else 2
    query, key = node.inputs[0], node.inputs[1] if past is None else past.new_key
    assert query is not None and key is not None
    return written_size(query, axis) == written_size(key, axis)


def _alone(node: ir.Node, facts: Facts, past: Past | None) -> bool:
    """Whether there is but one query, and no key after it."""
    query = node.inputs[0]
    assert query is not None
    return written_size(query, 1 if facts.flat else 2) == 1 and _as_many(node, facts, past)


def _not_said(mask: Mask, unproven: list[str], *, zero: bool) -> str:
    """What of a mask no operator takes but as a tensor."""
    if mask.opaque:
        return f"its mask is not understood at {mask.opaque[0].node} ({mask.opaque[0].reason})"
    if unproven:
        return f"its mask is known only if {', '.join(unproven)}"
    if mask.biases:
        return f"its mask adds numbers: {mask}"
    if len(mask.levels) > 1 or (zero and any(map(math.isfinite, mask.levels))):
        return "its mask hides keys by several numbers"
    return ""


class _Reader:
    """Reads the clauses of one mask.

    Attributes:
        causal, padding, sees_itself: as in `Meaning`.
        discharged: what the mask takes for granted, and its form does not need.
    """

    def __init__(self, node: ir.Node, facts: Facts, past: Past | None, mask: Mask) -> None:
        self._node, self._facts, self._past, self._mask = node, facts, past, mask
        self.causal = False
        self.padding: ir.Value | None = None
        self.sees_itself = True
        self.discharged: set[str] = set()

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
        value: ir.Value = test.value
        key = self._mask.grid.key
        row, column = places
        if column is not key or row.op != "index" or row.value != "batch" or rank(value) != 2:
            return None
        query = self._node.inputs[0]
        assert query is not None
        if written_size(value, 0) != written_size(query, 0):
            return None
        sizes, keys = declared(value), self._keys()
        if sizes is None or keys is None:
            return None
        # The padding is repeated for all keys where it is one number, as the mask was.
        self.discharged |= {f"{sizes[1]} == {keys}", f"{keys} == {sizes[1]}"}
        return value

    def _keys(self) -> Term | None:
        """The number of keys."""
        past, axis = self._past, 1 if self._facts.flat else 2
        key = self._node.inputs[1] if past is None else past.new_key
        new = declared(key) if key is not None else None
        before = declared(past.key) if past is not None else None
        if new is None or past is None:
            return new[axis] if new is not None else None
        return add(before[2], new[axis]) if before is not None else None


def _forward(side: Term | None) -> bool:
    return side is None or (side.op == "const" and side.value >= 0)
