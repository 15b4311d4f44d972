"""Bounds on `key - query`: causal masks and windows."""

from __future__ import annotations

from burnish.optimizer.analysis.masks.bounds import lower, upper
from burnish.optimizer.analysis.masks.clauses import Causal, Clause, Grid, Window
from burnish.optimizer.analysis.masks.rewrite import axes, contains
from burnish.optimizer.analysis.masks.terms import (
    ZERO,
    Term,
    add,
    const,
    linear,
    minus,
    negated,
    total,
)


class Sides:
    """The bounds that a mask sets to `key - query`, from above and from below."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._highest: list[Term] = []
        self._lowest: list[Term] = []

    def take(self, part: Term) -> bool:
        """Take a condition in, if it is such a bound."""
        grid = self._grid
        if part.op != "at_most" or not part.args[0].integral:
            return False
        coefficients, constant = linear(part.args[0])
        rest = {a: f for a, f in coefficients.items() if a is not grid.key and a is not grid.query}
        bound = total(rest, constant)
        if axes(bound) or contains(bound, {"lookup"}):
            return False
        pair = (coefficients.get(grid.key, 0), coefficients.get(grid.query, 0))
        if pair == (1, -1):
            _tighten(self._highest, negated(bound), -1)
            return True
        if pair == (-1, 1):
            _tighten(self._lowest, bound, 1)
            return True
        return False

    def only_upper(self) -> Term | None:
        """The one bound from above, where there is no other."""
        return self._highest[0] if len(self._highest) == 1 and not self._lowest else None

    def clauses(self) -> list[Clause]:
        """The bounds as clauses."""
        found: list[Clause] = []
        high = self._highest[0] if self._highest else None
        offset = self._offset(high)
        if high is not None and high is offset:
            found.append(Causal(high))
        right = None if high is None else minus(high, offset)
        if self._lowest:
            found.append(Window(minus(offset, self._lowest[0]), right, offset))
        elif high is not None and high is not offset:
            found.append(Window(None, right, offset))
        found += [Window(None, minus(other, offset), offset) for other in self._highest[1:]]
        found += [Window(minus(offset, other), None, offset) for other in self._lowest[1:]]
        return found

    def _offset(self, high: Term | None) -> Term:
        """Where the first query stands, as far as the bounds tell.

        A bound that is not above 0 but for sizes is causal; one at the last key for the last
        query is causal too; another number on top is a window to the right.
        """
        bound = high if high is not None else self._lowest[0] if self._lowest else ZERO
        coefficients, constant = linear(bound)
        keys, queries = _extent(self._grid.key), _extent(self._grid.query)
        if high is not None and (
            constant <= 0 or (bool(coefficients) and high is minus(keys, queries))
        ):
            return high
        if high is not None and not coefficients and keys.op == queries.op == "const":
            return high if high is minus(keys, queries) else ZERO
        return total(coefficients, 0)


def _extent(position: Term) -> Term:
    return position.args[0] if position.op == "index" else const(1)


def _tighten(bounds: list[Term], bound: Term, sign: int) -> None:
    """Keep a bound, and of two that can be compared the one that says more."""
    for place, other in enumerate(bounds):
        difference = minus(bound, other) if sign > 0 else minus(other, bound)
        if lower(difference) >= 0:
            bounds[place] = bound
            return
        if upper(difference) <= 0:
            return
    bounds.append(add(bound))
