"""What a mask is made of: clauses that must all hold for a key to be seen, and biases.

Every clause makes its condition, and every bias its number, from its own fields as a term over the
positions `batch`, `head`, `query` and `key`; the proof compares those with the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.masks import logic
from burnish.optimizer.analysis.masks.rewrite import topological
from burnish.optimizer.analysis.masks.show import show
from burnish.optimizer.analysis.masks.terms import TRUE, ZERO, Term, add, minus, negated, times


@dataclass(frozen=True)
class Grid:
    """The positions of the query and of the key, as terms."""

    query: Term
    key: Term

    @property
    def distance(self) -> Term:
        """How far the key comes after the query, by their indices."""
        return minus(self.key, self.query)


@dataclass(frozen=True)
class Causal:
    """`key - query <= offset`: the query at index `q` stands at position `q + offset`."""

    offset: Term

    def condition(self, grid: Grid) -> Term:
        return logic.less_or_equal(grid.distance, self.offset)

    def __str__(self) -> str:
        return "causal" if self.offset is ZERO else f"causal(offset={show(self.offset)})"


@dataclass(frozen=True)
class Window:
    """`-left <= key - query - offset <= right`; None where a side is open."""

    left: Term | None
    right: Term | None
    offset: Term = ZERO

    def condition(self, grid: Grid) -> Term:
        place = minus(grid.distance, self.offset)
        before = TRUE if self.left is None else logic.less_or_equal(negated(self.left), place)
        after = TRUE if self.right is None else logic.less_or_equal(place, self.right)
        return logic.both(before, after)

    def __str__(self) -> str:
        sides = [("left", self.left), ("right", self.right)]
        text = ", ".join(f"{name}={show(side)}" for name, side in sides if side is not None)
        offset = "" if self.offset is ZERO else f", offset={show(self.offset)}"
        return f"window({text}{offset})"


@dataclass(frozen=True)
class KeyPadding:
    """Which keys exist: a condition on what values of the graph hold at [batch, key].

    Attributes:
        test: the condition, over `batch` and `key` (or `query`).
        names: the values it reads; inputs of the graph as a rule. Empty for a bound on the key.
        orientation: "key", "query" (padded queries see nothing), or "batch" (whole rows).
        binary: whether the values are taken to be 0 or 1 (`(1 - mask) * lowest`).
    """

    test: Term
    names: tuple[str, ...]
    orientation: str = "key"
    binary: bool = False

    def condition(self, grid: Grid) -> Term:
        return self.test

    @property
    def attends(self) -> str:
        """Which values mean that the key exists: "nonzero", "zero", "1", or the condition."""
        test = self.test
        if test.op == "lookup":
            return "nonzero"
        inner = test.args[0] if test.op == "not" else test
        if inner.op == "lookup" or (inner.op == "zero" and inner.args[0].op == "lookup"):
            return "nonzero" if (test.op == "not") is (inner.op == "zero") else "zero"
        if test.op == "zero" and test.args[0].op == "sum" and len(test.args[0].args) == 1:
            (factor,), constant = test.args[0].value
            return f"{-constant / factor:g}"
        return show(test)

    def __str__(self) -> str:
        kind = f"{self.orientation}_padding"
        if self.attends in ("nonzero", "1") and len(self.names) == 1:
            return f"{kind}({self.names[0]})"
        return f"{kind}({show(self.test)})"


@dataclass(frozen=True)
class Prefix:
    """Causal, but keys of the prefix are seen by every query."""

    offset: Term
    test: Term

    def condition(self, grid: Grid) -> Term:
        return logic.either(Causal(self.offset).condition(grid), self.test)

    def __str__(self) -> str:
        return f"prefix({show(self.test)})"


@dataclass(frozen=True)
class BlockDiagonal:
    """Query and key are of the same block: `by` gives the same at both positions.

    Attributes:
        by: the block of a key.
        of_query: the block of a query.
    """

    by: Term
    of_query: Term

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the graph that say where blocks are."""
        return looked_up(self.by)

    def condition(self, grid: Grid) -> Term:
        return logic.equal(self.by, self.of_query)

    def __str__(self) -> str:
        return f"block_diagonal({show(self.by)})"


@dataclass(frozen=True)
class Ordered:
    """`by` at the key is at most `by` at the query, plus an offset: causal by given positions."""

    by: Term
    of_query: Term
    offset: Term

    def condition(self, grid: Grid) -> Term:
        return logic.less_or_equal(self.by, add(self.of_query, self.offset))

    def __str__(self) -> str:
        return f"causal(by={show(self.by)})"


@dataclass(frozen=True)
class Given:
    """A whole mask from an input, or a constant table of truth values."""

    test: Term
    names: tuple[str, ...]

    def condition(self, grid: Grid) -> Term:
        return self.test

    def __str__(self) -> str:
        return f"given({', '.join(self.names)})"


@dataclass(frozen=True)
class Alibi:
    """`slopes[head] * distance`."""

    slopes: Term
    distance: Term

    @property
    def term(self) -> Term:
        return times(self.slopes, self.distance)

    def __str__(self) -> str:
        return f"alibi({show(self.slopes)}, {show(self.distance)})"


@dataclass(frozen=True)
class Relative:
    """A number that depends on the head and on `key - query` only, such as T5's."""

    term: Term

    def __str__(self) -> str:
        return f"relative({', '.join(looked_up(self.term)) or show(self.term)})"


@dataclass(frozen=True)
class Table:
    """A number by positions that comes from constants alone, the same for every batch."""

    term: Term

    def __str__(self) -> str:
        return f"table({', '.join(looked_up(self.term)) or show(self.term)})"


@dataclass(frozen=True)
class Added:
    """Numbers that an input gives."""

    term: Term
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"added({', '.join(self.names)})"


@dataclass(frozen=True)
class Opaque:
    """What was not proven to be any of the others, and where."""

    reason: str
    node: str
    term: Term | None = None

    def condition(self, grid: Grid) -> Term:
        return TRUE

    def __str__(self) -> str:
        return f"opaque({self.reason} at {self.node})"


Clause = Causal | Window | KeyPadding | Prefix | BlockDiagonal | Ordered | Given | Opaque
Bias = Alibi | Relative | Table | Added | Opaque


def tables(term: Term) -> list[ir.Value]:
    """The values of the graph that a term reads, in order."""
    found = {item.value: None for item in topological(term) if item.op == "lookup"}
    return list(found)


def is_constant(value: ir.Value) -> bool:
    """Whether a value is the same in every run."""
    return ir.convenience.get_const_tensor(value) is not None


def looked_up(term: Term) -> tuple[str, ...]:
    """Names of the values that a term reads."""
    return tuple(value.name or "" for value in tables(term))
