"""How far a window reaches, and what else its mask says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.masks import Mask, Masks, Opaque, logic
from burnish.optimizer.analysis.masks.proof import bias as bias_of
from burnish.optimizer.analysis.masks.reach import exact, reach_of
from burnish.optimizer.analysis.masks.rewrite import axes, topological
from burnish.optimizer.analysis.masks.sizes import declared
from burnish.optimizer.analysis.masks.terms import TRUE, ZERO, Term, const, index, size
from burnish.optimizer.analysis.matching import optional
from burnish.passes.lower.attention.band.written import unwritable
from burnish.passes.lower.attention.facts import Facts

UNIFORM = -1e30
"""Number that hides a key without a trace of its score, in 32 bits."""

LONGEST = 1 << 20
"""Keys of the widest window that is one."""


@dataclass(frozen=True)
class Said:
    """All that a mask says, as terms over `batch`, `head`, `query` and `key`.

    Attributes:
        whole: what must hold for a key to be seen.
        bias: what is added to the scores of keys that are seen.
        full: whether every query certainly sees a key.
        sizes: for each symbol in the terms a value, and its axis, of that size.
    """

    whole: Term
    bias: Term
    full: bool
    sizes: Mapping[str, tuple[ir.Value, int]]

    @property
    def by_head(self) -> bool:
        """Whether heads have masks of their own."""
        return "head" in axes(self.whole) | axes(self.bias)


@dataclass(frozen=True)
class Band(Said):
    """A mask that leaves each query the keys around it.

    Attributes:
        left, right: keys before and after the one at a query's own place that it may see.
        offset: that place, less the query's index.
        sinks: so many keys at the start may be seen from anywhere.
        first: so many queries at the start may see keys anywhere.
        seen: what must hold of a key in reach, besides the window's bounds.
    """

    left: int
    right: int
    offset: Term
    sinks: int
    first: int
    seen: Term

    @property
    def width(self) -> int:
        """Keys that a query may see."""
        return self.left + self.right + 1 + self.sinks

    @property
    def parts(self) -> tuple[object, ...]:
        """All that its blocks depend on."""
        reach = (self.left, self.right, self.offset, self.sinks, self.first)
        return (*reach, self.whole, self.bias, self.full)


def said_of(node: ir.Node, facts: Facts, masks: Masks, *, zero: bool, full: bool) -> Said | str:
    """What the mask of an attention says, its causal limit included, or why that is not known.

    A query without keys gives zero or, where it does not, all keys alike; `full` says that there
    certainly is no such query.
    """
    value, sizes = optional(node, 3), _named(node)
    causal = TRUE
    if facts.causal:
        if optional(node, 4) is not None:
            return "it is causal by an attribute, and has a past"
        query, key = (index(name, size(name)) for name in ("query", "key"))
        causal = logic.less_or_equal(key, query)
    if value is None:
        return Said(causal, ZERO, True, sizes)
    mask = masks.of(value)
    unknown = next((item for item in mask.opaque if not _linear(item, mask)), None)
    if unknown is not None:
        return f"its mask is not understood at {unknown.node} ({unknown.reason})"
    whole = logic.both(causal, *(exact(item, mask) for item in mask.clauses))
    bias = bias_of(mask)
    unproven = [text for text in mask.assumed if text not in _harmless(mask, (whole, bias))]
    if unproven:
        return f"its mask is known only if {', '.join(unproven)}"
    if not (zero or full) and (len(mask.levels) != 1 or max(mask.levels) > UNIFORM):
        return "what a query without keys gives depends on its scores"
    written = (unwritable(item, sizes) for item in (whole, bias))
    return next(filter(None, written), "") or Said(whole, bias, full, sizes)


def band_of(node: ir.Node, facts: Facts, masks: Masks, said: Said | str) -> Band | str:
    """The band of an attention's mask, which says that much, or why it has none."""
    value = optional(node, 3)
    if value is None or facts.causal:
        return "it has no mask" if value is None else "it is causal by an attribute as well"
    mask = masks.of(value)
    reach, others = reach_of(mask)
    if reach is None:
        return f"its mask has no window: {mask}"
    if isinstance(said, str):
        return said
    if reach.width > LONGEST:
        return "its window is of more keys than any sequence has"
    if reason := unwritable(reach.offset, said.sizes):
        return reason
    # Keys at the start are not among those that the window's bounds are checked for.
    seen = said.whole if reach.sinks else logic.both(TRUE, *others)
    facts_too = (reach.left, reach.right, reach.offset, reach.sinks, reach.first, seen)
    return Band(said.whole, said.bias, said.full, said.sizes, *facts_too)


def _linear(item: Opaque, mask: Mask) -> bool:
    """Whether what has no name can be computed without a table over queries and keys."""
    both = {mask.grid.key, mask.grid.query}
    looked_up = [part for part in topological(item.term or TRUE) if part.op == "lookup"]
    return item.term is not None and not any(both <= {*topological(part)} for part in looked_up)


def _named(node: ir.Node) -> dict[str, tuple[ir.Value, int]]:
    """A value, and its axis, for each symbol that the graph's inputs or the operands have."""
    graph = node.graph
    values = [*(graph.inputs if graph is not None else ()), *node.inputs[:3]]
    found: dict[str, tuple[ir.Value, int]] = {}
    for value in filter(None, values):
        for axis, extent in enumerate(declared(value) or ()):
            if extent.op == "size" and isinstance(extent.value, str):
                found.setdefault(extent.value, (value, axis))
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
