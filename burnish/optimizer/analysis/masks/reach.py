"""Which keys a mask leaves in reach of each query, as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from burnish.optimizer.analysis.masks import Causal, Mask, Opaque, Prefix, Window
from burnish.optimizer.analysis.masks.clauses import Clause
from burnish.optimizer.analysis.masks.rewrite import axes
from burnish.optimizer.analysis.masks.terms import Term, add, const, linear, minus, negated, total

MOST = 256
"""Keys, or queries, at the start of a sequence that may be apart from a window."""


@dataclass(frozen=True)
class Reach:
    """See the attributes of `band.Band`."""

    left: int
    right: int
    offset: Term
    sinks: int
    first: int

    @property
    def width(self) -> int:
        """Keys that the window itself leaves to a query."""
        return self.left + self.right + 1


def reach_of(mask: Mask) -> tuple[Reach | None, list[Term]]:
    """The reach of a mask, None where it has none, and the conditions that are no mere bounds.

    A condition `window or key < 4 or query < 2` is one: the window bounds it, but for a number of
    keys and queries at the start.
    """
    bounds, others = _Bounds(), list[Term]()
    for clause in mask.clauses:
        condition = exact(clause, mask)
        if isinstance(clause, Causal | Window):
            bounds.take(condition, mask)
            continue
        others.append(condition)
        if isinstance(clause, Opaque | Prefix):
            bounds.take_or(condition, mask)
    return bounds.reach(), others


def exact(clause: Clause, mask: Mask) -> Term:
    """The condition of a clause, also where nobody has a name for it."""
    unnamed = isinstance(clause, Opaque) and clause.term is not None
    return clause.term if unnamed else clause.condition(mask.grid)  # type: ignore[return-value, union-attr]


class _Bounds:
    """Bounds on `key - query` from above and from below, and what is free of them."""

    def __init__(self) -> None:
        self._highest: list[Term] = []
        self._lowest: list[Term] = []
        self._sinks = self._first = 0

    def take(self, condition: Term, mask: Mask) -> bool:
        """Take a conjunction of bounds in; whether it is one."""
        parts = condition.args if condition.op == "and" else (condition,)
        found = [_bound(part, mask) for part in parts]
        if any(item is None for item in found):
            return False
        for item in found:
            assert item is not None
            (self._highest if item[0] > 0 else self._lowest).append(item[1])
        return True

    def take_or(self, condition: Term, mask: Mask) -> None:
        """Take in a window that some keys or queries at the start are free of, if it is one."""
        if condition.op != "or":
            return
        sinks = [_start(item, mask.grid.key) for item in condition.args]
        first = [_start(item, mask.grid.query) for item in condition.args]
        free = [a or b for a, b in zip(sinks, first, strict=True)]
        rest = [item for item, known in zip(condition.args, free, strict=True) if not known]
        if len(rest) == 1 and self.take(rest[0], mask):
            self._sinks = max(self._sinks, *sinks)
            self._first = max(self._first, *first)

    def reach(self) -> Reach | None:
        """The reach to both sides, where these are numbers."""
        if not (self._highest and self._lowest) or max(self._sinks, self._first) > MOST:
            return None
        offset = total(linear(self._lowest[0])[0], 0)
        left, right = _least(minus(offset, item) for item in self._lowest), None
        right = _least(minus(item, offset) for item in self._highest)
        if left is None or right is None or left + right < 0:
            return None
        # A window that lies wholly to one side is one around another place.
        shift = -left if left < 0 else right if right < 0 else 0
        place = add(offset, const(shift))
        return Reach(left + shift, right - shift, place, self._sinks, self._first)


def _least(sides: Iterable[Term]) -> int | None:
    found = list(sides)
    if any(item.op != "const" for item in found):
        return None
    return int(min(item.value for item in found))


def _bound(part: Term, mask: Mask) -> tuple[int, Term] | None:
    """A bound on `key - query` from above (1) or from below (-1)."""
    if part.op not in ("at_most", "below") or not part.args[0].integral:
        return None
    coefficients, constant = linear(part.args[0])
    key, query = coefficients.pop(mask.grid.key, 0), coefficients.pop(mask.grid.query, 0)
    if (key, query) not in ((1, -1), (-1, 1)):
        return None
    rest = total(coefficients, constant + (part.op == "below"))
    if axes(rest) or any(item.op == "lookup" for item in coefficients):
        return None
    return (1, negated(rest)) if key > 0 else (-1, rest)


def _start(part: Term, position: Term) -> int:
    """The number `n` of a condition `position < n`; 0 where it is none."""
    if part.op not in ("at_most", "below") or not part.args[0].integral:
        return 0
    coefficients, constant = linear(part.args[0])
    if coefficients != {position: 1} or constant > 0:
        return 0
    return int(-constant) + (part.op == "at_most")
