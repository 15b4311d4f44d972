"""Symbolic terms: what one element of a tensor is, as a function of positions and sizes.

Terms are interned: two terms that are written alike are the same object, so that equality is `is`
and a mask that 24 layers repeat is simplified once. Integers are kept as linear forms
(`2*query - key + past`), booleans in negation normal form; constants move into the branches of a
`where`, so that every spelling of a two-valued mask ends as `where(condition, a, b)`.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

Number = bool | int | float

BOOLEAN = frozenset({"and", "or", "not", "at_most", "below", "zero"})
"""Operators that give a truth value; `at_most`, `below` and `zero` compare a sum with 0."""

_interned: weakref.WeakValueDictionary[Any, Term] = weakref.WeakValueDictionary()
_serials = itertools.count()


class Term:
    """An operator over terms. Made by the functions of this module only.

    Attributes:
        op: `const`, `index`, `size`, `lookup`, `sum`, `product`, `where`, `pick`, `call`, or one
            of `BOOLEAN`.
        args: the operands.
        value: the number of a constant; the axis of an index (its operand is its extent); the
            name, or value and axis, of a size; the table of a lookup (its operands are indices);
            coefficients and constant of a sum; the function of a call.
        serial: the order of making, by which operands that commute are sorted.
        integral: whether every number it can be is whole.
        weight: nodes of its expression, written out as a tree.
    """

    __slots__ = ("__weakref__", "args", "integral", "op", "serial", "value", "weight")

    op: str
    args: tuple[Term, ...]
    value: Any
    serial: int
    integral: bool
    weight: int

    def __repr__(self) -> str:
        from burnish.optimizer.analysis.masks.show import show

        return show(self)

    @property
    def boolean(self) -> bool:
        """Whether it is a truth value."""
        if self.op == "const":
            return isinstance(self.value, bool)
        if self.op == "lookup":
            return bool(self.value.dtype is ir.DataType.BOOL)
        if self.op == "pick":
            return all(item.boolean for item in self.args[1:])
        return self.op in BOOLEAN


def make(op: str, args: tuple[Term, ...] = (), value: Any = None, integral: bool = False) -> Term:
    """The term of that writing; no simplification."""
    key = (op, args, type(value) if op == "const" else None, value)
    found = _interned.get(key)
    if found is None:
        found = Term()
        found.op, found.args, found.value, found.integral = op, args, value, integral
        found.serial = next(_serials)
        found.weight = 1 + sum(item.weight for item in args)
        _interned[key] = found
    return found


def const(number: Number) -> Term:
    """A number or truth value."""
    whole = not isinstance(number, float) or number.is_integer()
    if isinstance(number, float) and whole and abs(number) < 2**53:
        number = int(number)
    return make("const", value=number, integral=whole)


TRUE, FALSE, ZERO, ONE = const(True), const(False), const(0), const(1)


def index(axis: int | str, extent: Term) -> Term:
    """The position along an axis, from 0 to `extent` (excluded)."""
    return ZERO if extent is ONE else make("index", (extent,), axis, integral=True)


def size(name: str | tuple[ir.Value, int]) -> Term:
    """A size that is not known before a run; never negative."""
    return make("size", value=name, integral=True)


def lookup(table: ir.Value, indices: Iterable[Term]) -> Term:
    """An element of a value of the graph; a negative index counts from the end."""
    whole = table.dtype is not None and table.dtype.is_integer()
    return make("lookup", tuple(indices), table, integral=whole)


def is_const(term: Term, number: Number | None = None) -> bool:
    """Whether it is a constant (that constant)."""
    return term.op == "const" and (
        number is None
        or (
            term.value == number
            and isinstance(term.value, bool) is (number is True or number is False)
        )
    )


def two_valued(term: Term) -> bool:
    """Whether it is one constant where a condition holds, and another where not."""
    return term.op == "where" and all(item.op == "const" for item in term.args[1:])


def linear(term: Term) -> tuple[dict[Term, Number], Number]:
    """Coefficients by atom, and the constant, of a number."""
    if term.op == "const":
        return {}, term.value
    if term.op == "sum":
        coefficients, constant = term.value
        return dict(zip(term.args, coefficients, strict=True)), constant
    return {term: 1}, 0


def total(coefficients: dict[Term, Number], constant: Number) -> Term:
    """The sum of atoms times their coefficients, and a constant."""
    parts = {atom: factor for atom, factor in coefficients.items() if factor != 0}
    if not parts:
        return const(constant)
    for atom in [atom for atom in parts if two_valued(atom)]:
        factor = parts.pop(atom)
        if not parts:
            condition, first, second = atom.args
            values = (item.value * factor + constant for item in (first, second))
            return where(condition, *map(const, values))
        atom = scaled(atom, factor)
        parts[atom] = parts.get(atom, 0) + 1
    if constant == 0 and len(parts) == 1:
        ((atom, factor),) = parts.items()
        if factor == 1:
            return atom
    ordered = sorted(parts.items(), key=lambda item: item[0].serial)
    numbers = (*(factor for _, factor in ordered), constant)
    whole = all(float(number).is_integer() for number in numbers if math.isfinite(number))
    whole &= all(math.isfinite(number) for number in numbers)
    atoms = tuple(atom for atom, _ in ordered)
    value = (tuple(factor for _, factor in ordered), constant)
    return make("sum", atoms, value, integral=whole and all(atom.integral for atom in atoms))


def scaled(term: Term, factor: Number) -> Term:
    """A number times a constant."""
    if two_valued(term):
        condition, first, second = term.args
        return where(condition, const(first.value * factor), const(second.value * factor))
    coefficients, constant = linear(term)
    if not math.isfinite(factor):
        return const(constant * factor) if not coefficients else _call_product(term, factor)
    return total({atom: item * factor for atom, item in coefficients.items()}, constant * factor)


def _call_product(term: Term, factor: Number) -> Term:
    return make("product", tuple(sorted((term, const(factor)), key=lambda item: item.serial)))


def add(*terms: Term) -> Term:
    """The sum of numbers."""
    coefficients: dict[Term, Number] = {}
    constant: Number = 0
    for term in terms:
        more, number = linear(term)
        constant += number
        for atom, factor in more.items():
            coefficients[atom] = coefficients.get(atom, 0) + factor
    return total(coefficients, constant)


def negated(term: Term) -> Term:
    """The number with the other sign."""
    return scaled(term, -1)


def minus(left: Term, right: Term) -> Term:
    """The difference of two numbers."""
    return add(left, negated(right))


LONGEST_PRODUCT = 6
"""Terms of the longest sum that is multiplied out."""


def times(left: Term, right: Term) -> Term:
    """The product of two numbers."""
    if left.op == "const":
        left, right = right, left
    if right.op == "const":
        return scaled(left, right.value)
    if two_valued(left) and two_valued(right):
        condition, first, second = left.args
        return where(condition, scaled(right, first.value), scaled(right, second.value))
    for one, other in ((left, right), (right, left)):
        if two_valued(one) and ZERO in one.args[1:] and not _unbounded(other):
            condition, first, second = one.args
            branches = (
                ZERO if item is ZERO else scaled(other, item.value) for item in (first, second)
            )
            return where(condition, *branches)
    if left.integral and right.integral:
        first_parts, first_constant = linear(left)
        second_parts, second_constant = linear(right)
        if 1 < len(first_parts) + len(second_parts) + bool(first_constant) + bool(
            second_constant
        ) <= LONGEST_PRODUCT and (
            len(first_parts) > 1
            or len(second_parts) > 1
            or first_constant
            or second_constant
            or any(factor != 1 for factor in (*first_parts.values(), *second_parts.values()))
        ):
            pieces = [
                scaled(_monomial(one, other), factor * more)
                for one, factor in [*first_parts.items(), (ONE, first_constant)]
                for other, more in [*second_parts.items(), (ONE, second_constant)]
                if factor * more != 0
            ]
            return add(*pieces)
    return _monomial(left, right)


def _monomial(*terms: Term) -> Term:
    factors: list[Term] = []
    for term in terms:
        factors += term.args if term.op == "product" else [term]
    factors = sorted((item for item in factors if item is not ONE), key=lambda item: item.serial)
    if not factors:
        return ONE
    if len(factors) == 1:
        return factors[0]
    return make("product", tuple(factors), integral=all(item.integral for item in factors))


def _unbounded(term: Term) -> bool:
    """Whether an infinite constant is in it, which times 0 would be no number."""
    if term.op == "const":
        return isinstance(term.value, float) and not math.isfinite(term.value)
    if term.op == "lookup":
        return (
            not term.integral and term.value.producer() is None and term.value.const_value is None
        )
    return any(_unbounded(item) for item in term.args)


def where(condition: Term, first: Term, second: Term) -> Term:
    """`first` where the condition holds, else `second`."""
    from burnish.optimizer.analysis.masks import logic

    if condition.op == "const":
        return first if condition.value else second
    if first is second:
        return first
    if first.boolean and second.boolean:
        return logic.either(
            logic.both(condition, first), logic.both(logic.negation(condition), second)
        )
    if first.op == "where" and first.args[2] is second:
        return where(logic.both(condition, first.args[0]), first.args[1], second)
    if first.op == "where" and first.args[1] is second:
        outside = logic.negation(first.args[0])
        return where(logic.both(condition, outside), first.args[2], second)
    if second.op == "where" and second.args[1] is first:
        return where(logic.either(condition, second.args[0]), first, second.args[2])
    if second.op == "where" and second.args[2] is first:
        inside = logic.negation(second.args[0])
        return where(logic.either(condition, inside), first, second.args[1])
    whole = first.integral and second.integral
    return make("where", (condition, first, second), integral=whole)


def pick(position: Term, items: tuple[Term, ...]) -> Term:
    """The item at a position of a short list."""
    if position.op == "const":
        return items[int(position.value)]
    if len(set(items)) == 1:
        return items[0]
    return make("pick", (position, *items), integral=all(item.integral for item in items))
