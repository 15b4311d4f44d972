"""Bounds of terms, from the ranges of positions and from sizes not being negative."""

from __future__ import annotations

from burnish.optimizer.analysis.masks.terms import (
    ZERO,
    Number,
    Term,
    add,
    const,
    linear,
    scaled,
    total,
)

INFINITY = float("inf")


def upper(term: Term) -> Number:
    """A number that it does not exceed."""
    return _bound(term, 1)


def lower(term: Term) -> Number:
    """A number that it does not fall below."""
    return -_bound(term, -1)


def _bound(term: Term, sign: int) -> Number:
    """A bound from above on the term, or (sign -1) on its negative."""
    if term.op == "const":
        number: Number = term.value * sign
        return number
    if term.op != "sum":
        return _atom(term, sign)
    coefficients, constant = linear(term)
    coefficients = {atom: factor * sign for atom, factor in coefficients.items()}
    # Positions first: what their ranges leave over may cancel other sizes.
    rest, bound = {}, total({}, constant * sign)
    for atom, factor in coefficients.items():
        if atom.op == "index":
            bound = add(bound, scaled(add(atom.args[0], const(-1)), factor) if factor > 0 else ZERO)
        else:
            rest[atom] = factor
    coefficients, left = linear(add(bound, total(rest, 0)))
    result: Number = left
    for atom, factor in coefficients.items():
        result += abs(factor) * (_atom(atom, 1) if factor > 0 else _atom(atom, -1))
    return result


def _atom(term: Term, sign: int) -> Number:
    if term.op == "index":
        return _bound(add(term.args[0], const(-1)), 1) if sign > 0 else 0
    if term.op == "size":
        return INFINITY if sign > 0 else 0
    if term.op == "product" and sign < 0 and all(lower(item) >= 0 for item in term.args):
        return 0
    if term.op in ("where", "pick"):
        return max(_bound(item, sign) for item in term.args[1:])
    if term.op == "call":
        return _call(term, sign)
    return INFINITY


def _call(term: Term, sign: int) -> Number:
    name, args = term.value, term.args
    if name in ("min", "max"):
        bounds = [_bound(item, sign) for item in args]
        return min(bounds) if (name == "min") is (sign > 0) else max(bounds)
    if name == "abs":
        return max(_bound(args[0], 1), _bound(args[0], -1)) if sign > 0 else 0
    if name == "floor_div" and lower(args[1]) > 0:
        return (
            _bound(args[0], 1)
            if sign > 0 and lower(args[0]) >= 0
            else -0
            if lower(args[0]) >= 0
            else INFINITY
        )
    if name == "mod" and lower(args[1]) > 0:
        return _bound(args[1], 1) - 1 if sign > 0 else 0
    return INFINITY
