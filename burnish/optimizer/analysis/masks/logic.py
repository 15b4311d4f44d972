"""Truth values over terms: comparison of sums with zero, and, or, not."""

from __future__ import annotations

import math

from burnish.optimizer.analysis.masks.bounds import lower, upper
from burnish.optimizer.analysis.masks.terms import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Number,
    Term,
    add,
    const,
    linear,
    make,
    minus,
    negated,
    total,
    two_valued,
    where,
)

MOST_CASES = 3
"""Two-valued atoms of a sum whose cases are written out when it is compared."""


def both(*terms: Term) -> Term:
    """Whether all hold."""
    return _gather("and", terms, TRUE, FALSE)


def either(*terms: Term) -> Term:
    """Whether any holds."""
    return _gather("or", terms, FALSE, TRUE)


def _gather(op: str, terms: tuple[Term, ...], neutral: Term, decisive: Term) -> Term:
    parts: dict[Term, None] = {}
    for term in terms:
        parts.update(dict.fromkeys(term.args if term.op == op else (term,)))
    parts.pop(neutral, None)
    if decisive in parts or any(term.op == "not" and term.args[0] in parts for term in parts):
        return decisive
    # `a or (a and b)` is `a`; `a and (a or b)` as well.
    other = "or" if op == "and" else "and"
    kept = [
        term for term in parts if term.op != other or not any(item in parts for item in term.args)
    ]
    if not kept:
        return neutral
    if len(kept) == 1:
        return kept[0]
    return make(op, tuple(sorted(kept, key=lambda item: item.serial)))


def negation(term: Term) -> Term:
    """Whether it does not hold."""
    if term.op == "const":
        return const(not term.value)
    if term.op == "not":
        return term.args[0]
    if term.op == "and":
        return either(*map(negation, term.args))
    if term.op == "or":
        return both(*map(negation, term.args))
    if term.op == "at_most" and term.args[0].integral:
        return at_most(add(negated(term.args[0]), ONE))
    return make("not", (term,))


def truth(term: Term) -> Term:
    """Whether a number is not zero."""
    return term if term.boolean else negation(equal(term, ZERO))


def number(term: Term) -> Term:
    """1 for a truth, 0 for a falsehood; a number is itself."""
    return where(term, ONE, ZERO) if term.boolean else term


def less(left: Term, right: Term) -> Term:
    """Whether `left < right`."""
    difference = minus(left, right)
    if difference.integral:
        return at_most(add(difference, ONE))
    return _compare("below", difference)


def at_most(difference: Term) -> Term:
    """Whether a number is not above 0."""
    return _compare("at_most", difference)


def less_or_equal(left: Term, right: Term) -> Term:
    """Whether `left <= right`."""
    return at_most(minus(left, right))


def equal(left: Term, right: Term) -> Term:
    """Whether two numbers, or two truth values, are the same."""
    if left.boolean and right.boolean:
        return either(both(left, right), both(negation(left), negation(right)))
    difference = minus(number(left), number(right))
    if any(factor < 0 for factor in list(linear(difference)[0].values())[:1]):
        difference = negated(difference)
    return _compare("zero", difference)


def _decide(op: str, value: float) -> Term:
    return const({"at_most": value <= 0, "below": value < 0, "zero": value == 0}[op])


def _compare(op: str, term: Term) -> Term:
    if term.op == "const":
        return _decide(op, term.value)
    if term.op == "where":
        condition, first, second = term.args
        return where(condition, _compare(op, first), _compare(op, second))
    if op == "zero" and term.op == "product":
        return either(*(_compare(op, item) for item in term.args))
    atoms, constant = linear(term)
    cases = [atom for atom in atoms if two_valued(atom)]
    if cases and len(cases) <= MOST_CASES:
        condition, first, second = cases[0].args
        factor = atoms.pop(cases[0])
        branches = (
            add(total(atoms, constant), const(item.value * factor)) for item in (first, second)
        )
        return where(condition, *(_compare(op, branch) for branch in branches))
    high, low = upper(term), lower(term)
    if low > 0:
        return FALSE
    if (op == "below" and high < 0) or (op == "at_most" and high <= 0):
        return TRUE
    if (op == "below" and low >= 0) or (op == "zero" and high < 0):
        return FALSE
    if op == "at_most" and (split := _split(term)) is not None:
        return split
    return make(op, (_reduced(term) if op == "at_most" else term,))


def _split(term: Term) -> Term | None:
    """`|x| + r <= 0` as `x + r <= 0 and -x + r <= 0`; the like for minima and maxima."""
    atoms, constant = linear(term)
    for atom, factor in atoms.items():
        if atom.op != "call" or atom.value not in ("abs", "min", "max") or abs(factor) != 1:
            continue
        rest = total({other: item for other, item in atoms.items() if other is not atom}, constant)
        options = (atom.args[0], negated(atom.args[0])) if atom.value == "abs" else atom.args
        parts = [at_most(add(rest, item if factor == 1 else negated(item))) for item in options]
        together = (factor == 1) is (atom.value != "min")
        return both(*parts) if together else either(*parts)
    return None


def _reduced(term: Term) -> Term:
    """A sum of whole numbers that is not above 0, divided by what its coefficients share."""
    atoms, constant = linear(term)
    if not term.integral:
        return term
    common = math.gcd(*(int(factor) for factor in atoms.values()))
    if common == 1:
        return term
    parts: dict[Term, Number] = {atom: int(factor) // common for atom, factor in atoms.items()}
    return total(parts, -((-int(constant)) // common))
