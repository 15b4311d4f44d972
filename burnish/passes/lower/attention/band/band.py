"""How far a window reaches, and what else its mask says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.masks import Causal, Mask, Masks, Window, logic
from burnish.optimizer.analysis.masks.rewrite import axes, topological
from burnish.optimizer.analysis.masks.sizes import declared
from burnish.optimizer.analysis.masks.terms import (
    TRUE,
    ZERO,
    Term,
    add,
    const,
    linear,
    minus,
    total,
)
from burnish.optimizer.analysis.matching import optional
from burnish.passes.lower.attention.band.written import unwritable
from burnish.passes.lower.attention.facts import Facts

UNIFORM = -1e30
"""Number that hides a key without a trace of its score, in 32 bits."""

LONGEST = 1 << 20
"""Keys of the widest window that is one."""


@dataclass(frozen=True)
class Band:
    """A mask that leaves each query the keys around it.

    Attributes:
        left, right: keys before and after the one at a query's own place that it may see.
        offset: that place, less the query's index.
        seen: what must hold besides for a key to be seen; over `batch`, `head`, `query`, `key`.
        bias: what is added to the scores of keys that are seen.
        full: whether every query certainly sees a key.
        sizes: for each symbol in the terms a value, and its axis, of that size.
    """

    left: int
    right: int
    offset: Term
    seen: Term
    bias: Term
    full: bool
    sizes: Mapping[str, tuple[ir.Value, int]]

    @property
    def width(self) -> int:
        """Keys that a query may see."""
        return self.left + self.right + 1

    @property
    def by_head(self) -> bool:
        """Whether heads have masks of their own."""
        return "head" in axes(self.seen) | axes(self.bias)


def band_of(node: ir.Node, facts: Facts, masks: Masks, *, zero: bool, full: bool) -> Band | str:
    """The band of an attention's mask, or why it has none.

    A query without keys gives zero or, where it does not, all keys alike; `full` says that there
    certainly is no such query.
    """
    value = optional(node, 3)
    if value is None or facts.causal:
        return "it has no mask" if value is None else "it is causal by an attribute as well"
    mask = masks.of(value)
    if mask.opaque:
        return f"its mask is not understood at {mask.opaque[0].node} ({mask.opaque[0].reason})"
    sides = _sides(mask)
    if sides is None:
        return f"its mask has no window: {mask}"
    left, right, offset = sides
    if left + right + 1 > LONGEST:
        return "its window is of more keys than any sequence has"
    others = [item for item in mask.clauses if not isinstance(item, Causal | Window)]
    seen = logic.both(TRUE, *(item.condition(mask.grid) for item in others))
    bias = add(ZERO, *(item.term for item in mask.biases if item.term is not None))
    sizes = _named(node)
    reason = next(filter(None, (unwritable(item, sizes) for item in (offset, seen, bias))), "")
    unproven = [text for text in mask.assumed if text not in _harmless(mask, (seen, bias))]
    if unproven:
        return f"its mask is known only if {', '.join(unproven)}"
    if not (zero or full) and (len(mask.levels) != 1 or max(mask.levels) > UNIFORM):
        return "what a query without keys gives depends on its scores"
    return reason or Band(left, right, offset, seen, bias, full, sizes)


def _sides(mask: Mask) -> tuple[int, int, Term] | None:
    """The reach to both sides and the offset, where these are numbers."""
    highest, lowest = [], []
    for item in mask.clauses:
        if isinstance(item, Causal):
            highest.append(item.offset)
        if isinstance(item, Window) and item.right is not None:
            highest.append(add(item.offset, item.right))
        if isinstance(item, Window) and item.left is not None:
            lowest.append(minus(item.offset, item.left))
    if not (highest and lowest) or not lowest[0].integral:
        return None
    offset = total(linear(lowest[0])[0], 0)
    left = [minus(offset, item) for item in lowest]
    right = [minus(item, offset) for item in highest]
    if any(item.op != "const" for item in (*left, *right)):
        return None
    before, after = (int(min(item.value for item in side)) for side in (left, right))
    if before + after < 0:
        return None
    # A window that lies wholly to one side is one around another place.
    shift = -before if before < 0 else after if after < 0 else 0
    return before + shift, after - shift, add(offset, const(shift))


def _named(node: ir.Node) -> dict[str, tuple[ir.Value, int]]:
    """A value, and its axis, for each symbol that the graph's inputs or the operands have."""
    graph = node.graph
    values = [*(graph.inputs if graph is not None else ()), *node.inputs[:3]]
    found: dict[str, tuple[ir.Value, int]] = {}
    for value in filter(None, values):
        for axis, size in enumerate(declared(value) or ()):
            if size.op == "size" and isinstance(size.value, str):
                found.setdefault(size.value, (value, axis))
    return found


def _harmless(mask: Mask, parts: tuple[Term, ...]) -> set[str]:
    """What a mask takes for granted of tables over keys: one of length 1 is the same for all."""
    key = mask.grid.key
    keys = key.args[0] if key.op == "index" else const(1)
    return {
        text
        for part in parts
        for size in _lengths(part, key)
        for text in (f"{size} == {keys}", f"{keys} == {size}")
    }


def _lengths(part: Term, key: Term) -> Iterator[Term]:
    """Declared sizes of the axes that a key is looked up along."""
    for item in topological(part):
        if item.op == "lookup":
            sizes = declared(item.value) or ()
            for size, place in zip(sizes, item.args, strict=True):
                if place is key and axes(place):
                    yield size
