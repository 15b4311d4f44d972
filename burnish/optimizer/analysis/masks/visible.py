"""An additive mask taken apart: which keys it leaves visible, and what it adds to their scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.analysis.masks import logic
from burnish.optimizer.analysis.masks.clauses import is_constant
from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.rewrite import topological
from burnish.optimizer.analysis.masks.terms import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Number,
    Term,
    add,
    linear,
    scaled,
    total,
    where,
)

HIDING = -9000.0
"""A number that hides a key where it is added to its score (-10000 in 16 bits is -9984)."""


@dataclass(frozen=True)
class Split:
    """`where(visible, bias, one of levels)`.

    Attributes:
        visible: whether a key is seen.
        bias: what is added to the score of a key that is seen.
        levels: numbers that hide.
        binary: values that were taken to be 0 or 1.
    """

    visible: Term
    bias: Term
    levels: frozenset[float] = frozenset()
    binary: frozenset[Term] = frozenset()


class NotNumber(Exception):
    """The mask adds what is no number."""


def split(term: Term) -> Split:
    """The parts of an additive mask.

    Raises:
        NotNumber: it holds NaN.
    """
    done: dict[Term, Split] = {}
    for item in topological(term):
        if not item.boolean:
            done[item] = _split(item, done)
    return done[term]


def _split(term: Term, done: dict[Term, Split]) -> Split:
    if term.op == "const":
        if math.isnan(term.value):
            raise NotNumber
        if term.value <= HIDING:
            return Split(FALSE, ZERO, frozenset({float(term.value)}))
    elif term.op == "where":
        return _choice(term.args[0], done[term.args[1]], done[term.args[2]])
    elif term.op == "sum":
        return _sum(term, done)
    elif term.op == "call" and term.value in ("max", "min", "half", "bfloat16"):
        return _function(term, done)
    return Split(TRUE, term)


def _choice(condition: Term, first: Split, second: Split) -> Split:
    inside = logic.both(condition, first.visible)
    outside = logic.both(logic.negation(condition), second.visible)
    if first.visible is FALSE:
        bias = second.bias
    elif second.visible is FALSE:
        bias = first.bias
    else:
        bias = where(condition, first.bias, second.bias)
    return Split(
        logic.either(inside, outside),
        bias,
        first.levels | second.levels,
        first.binary | second.binary,
    )


def _sum(term: Term, done: dict[Term, Split]) -> Split:
    coefficients, constant = linear(term)
    parts: list[Split] = []
    rest: dict[Term, Number] = {}
    for atom, factor in coefficients.items():
        if abs(factor) >= -HIDING and _from_graph(atom):
            # `factor * (mask - 1)` or `-factor * mask`, with a mask of 0 and 1.
            if factor > 0:
                constant += factor
            test = logic.equal(atom, ONE) if factor > 0 else logic.equal(atom, ZERO)
            if atom.op == "product" and factor > 0:
                test = logic.both(*(logic.equal(item, ONE) for item in atom.args))
            parts.append(Split(test, ZERO, frozenset({-abs(float(factor))}), frozenset({atom})))
        elif factor == 1:
            parts.append(done[atom])
        elif atom.op == "where":
            condition, first, second = atom.args
            parts.append(
                _choice(condition, *(_again(scaled(item, factor)) for item in (first, second)))
            )
        else:
            rest[atom] = factor
    parts.append(_again(total(rest, constant)))
    levels: frozenset[float] = frozenset()
    for part in parts:
        sums = {_added(one, other) for one in levels for other in part.levels}
        levels = levels | part.levels | sums
    return Split(
        logic.both(*(part.visible for part in parts)),
        add(*(part.bias for part in parts)),
        levels,
        frozenset().union(*(part.binary for part in parts)),
    )


def _again(term: Term) -> Split:
    """The parts of a term that is simpler than the one it comes from."""
    if term.op == "sum" and all(atom.op != "where" for atom in term.args):
        return Split(TRUE, term)
    return split(term)


def _from_graph(term: Term) -> bool:
    parts = term.args if term.op == "product" else (term,)
    return all(item.op == "lookup" and not is_constant(item.value) for item in parts)


def _added(left: float, right: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(left) + np.float32(right))


def _function(term: Term, done: dict[Term, Split]) -> Split:
    parts = [done[item] for item in term.args]
    if term.value in ("half", "bfloat16"):
        return Split(
            parts[0].visible, call(term.value, parts[0].bias), parts[0].levels, parts[0].binary
        )
    hidden = [part for part in parts if part.visible is FALSE]
    others = [part for part in parts if part.visible is not FALSE]
    if term.value == "max" and len(hidden) == 1 and len(others) == 1:
        floor = max(hidden[0].levels)
        levels = frozenset(max(level, floor) for level in others[0].levels)
        return Split(others[0].visible, others[0].bias, levels, others[0].binary)
    if all(part.bias is ZERO for part in parts):
        together = logic.both if term.value == "min" else logic.either
        levels = frozenset().union(*(part.levels for part in parts))
        binary = frozenset().union(*(part.binary for part in parts))
        return Split(together(*(part.visible for part in parts)), ZERO, levels, binary)
    return Split(TRUE, term)
