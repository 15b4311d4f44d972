"""Functions of numbers that are no sums: division, extremes, and what tables are indexed by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from burnish.optimizer.analysis.masks.bounds import lower, upper
from burnish.optimizer.analysis.masks.terms import (
    ONE,
    ZERO,
    Number,
    Term,
    add,
    const,
    linear,
    make,
    minus,
    negated,
    scaled,
    times,
    total,
    two_valued,
    where,
)


def _truncated_quotient(left: Any, right: Any) -> Any:
    return np.trunc(np.divide(left, right)).astype(np.int64)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "ceil": np.ceil, "div": np.divide, "exp": np.exp, "floor": np.floor,
    "floor_div": np.floor_divide, "int_div": _truncated_quotient, "log": np.log, "max": np.maximum,
    "min": np.minimum, "mod": np.mod, "fmod": np.fmod, "pow": np.power, "round": np.round,
    "sign": np.sign, "sqrt": np.sqrt, "trunc": np.trunc,
    "half": lambda number: np.float64(np.float16(number)),
    "bfloat16": lambda number: np.asarray(number, ml_dtypes.bfloat16).astype(np.float64),
}  # fmt: skip
"""How each function is computed."""

WHOLE = {"floor", "ceil", "round", "trunc", "sign", "int_div"}
"""Functions whose result is whole for any argument."""

CLOSED = {"abs", "floor_div", "max", "min", "mod", "fmod"}
"""Functions whose result is whole where the arguments are."""


def call(name: str, *args: Term) -> Term:
    """A function of numbers, folded where they are known."""
    if all(item.op == "const" for item in args):
        with np.errstate(all="ignore"):
            result = np.asarray(FUNCTIONS[name](*(item.value for item in args)))
            return const(result.item())
    for place, item in enumerate(args):
        others = [other for other in args if other is not item]
        if two_valued(item) and all(other.op == "const" or two_valued(other) for other in others):
            condition, *branches = item.args
            cases = (call(name, *args[:place], case, *args[place + 1 :]) for case in branches)
            return where(condition, *cases)
    if name in _SIMPLER and (simple := _SIMPLER[name](*args)) is not None:
        return simple
    whole = name in WHOLE or (name in CLOSED and all(item.integral for item in args))
    return make("call", args, name, integral=whole)


def quotient(left: Term, right: Term) -> Term:
    """The quotient of whole numbers, as ONNX truncates it."""
    if lower(left) >= 0 and lower(right) >= 0:
        return call("floor_div", left, right)
    return call("int_div", left, right)


def _floor_div(left: Term, right: Term) -> Term | None:
    if right is ONE:
        return left
    multiple, rest = divided(left, right)
    if lower(rest) >= 0 and upper(minus(rest, right)) < 0:
        return multiple
    if multiple is not ZERO:
        return add(multiple, call("floor_div", rest, right))
    return None


def _mod(left: Term, right: Term) -> Term | None:
    if right is ONE:
        return ZERO
    multiple, rest = divided(left, right)
    if lower(rest) >= 0 and upper(minus(rest, right)) < 0:
        return rest
    return call("mod", rest, right) if multiple is not ZERO else None


def divided(left: Term, right: Term) -> tuple[Term, Term]:
    """`m` and `r` with `left = m * right + r`, by long division of whole sums."""
    if not (left.integral and right.integral):
        return ZERO, left
    if right.op == "const":
        return _divided_by_number(left, int(right.value))
    coefficients, _ = linear(right)
    leading = max(coefficients, key=lambda atom: atom.serial)
    if abs(coefficients[leading]) != 1:
        return ZERO, left
    multiple, rest = ZERO, left
    for atom, factor in linear(left)[0].items():
        piece = _without(atom, leading)
        if piece is not None:
            piece = scaled(piece, factor * coefficients[leading])
            multiple = add(multiple, piece)
            rest = minus(rest, times(piece, right))
    return multiple, rest


def _divided_by_number(left: Term, right: int) -> tuple[Term, Term]:
    coefficients, constant = linear(left)
    multiples: dict[Term, Number] = {
        atom: int(item) // right for atom, item in coefficients.items() if item % right == 0
    }
    rest: dict[Term, Number] = {atom: item for atom, item in coefficients.items() if item % right}
    return total(multiples, int(constant) // right), total(rest, int(constant) % right)


def _without(atom: Term, factor: Term) -> Term | None:
    """The product without that factor; None where it is none of its factors."""
    if atom is factor:
        return ONE
    if atom.op != "product":
        return None
    rest = list(atom.args)
    for item in factor.args if factor.op == "product" else (factor,):
        if item not in rest:
            return None
        rest.remove(item)
    result = ONE
    for item in rest:
        result = times(result, item)
    return result


def _extreme(name: str) -> Callable[..., Term | None]:
    def simpler(*args: Term) -> Term | None:
        left, *more = args
        if not more:
            return left
        right = more[0] if len(more) == 1 else call(name, *more)
        difference = minus(left, right)
        if upper(difference) <= 0:
            return left if name == "min" else right
        if lower(difference) >= 0:
            return right if name == "min" else left
        return None if len(more) == 1 else call(name, left, right)

    return simpler


def _absolute(term: Term) -> Term | None:
    if lower(term) >= 0:
        return term
    if upper(term) <= 0:
        return negated(term)
    first = next(iter(linear(term)[0].values()))
    return call("abs", negated(term)) if first < 0 else None


def _division(left: Term, right: Term) -> Term | None:
    if right.op == "const" and right.value != 0 and math.isfinite(right.value):
        return scaled(left, 1 / right.value)
    return None


def _whole(term: Term) -> Term | None:
    return term if term.integral else None


_SIMPLER: dict[str, Callable[..., Term | None]] = {
    "abs": _absolute, "div": _division, "floor_div": _floor_div, "mod": _mod,
    "min": _extreme("min"), "max": _extreme("max"), "floor": _whole, "ceil": _whole,
    "round": _whole, "trunc": _whole,
}  # fmt: skip
