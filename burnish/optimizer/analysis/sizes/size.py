"""Sizes that are not known before a run, as polynomials: `batch * sequence`, `past + 1`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

Monomial = tuple[Hashable, ...]
"""Atoms that are multiplied, sorted; the empty one is 1."""


@dataclass(frozen=True)
class Size:
    """A polynomial in sizes, with whole coefficients other than 0.

    Two sizes that are equal as polynomials are equal in every run. Two that differ may still be.

    Attributes:
        terms: coefficient by monomial, in a fixed order.
    """

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def of(cls, number: int) -> Size:
        """A size that is a number."""
        return cls((((), number),) if number else ())

    @classmethod
    def atom(cls, name: Hashable) -> Size:
        """A size of which nothing is known but its name; never negative."""
        return cls((((name,), 1),))

    @classmethod
    def _made(cls, terms: Mapping[Monomial, int]) -> Size:
        kept = {monomial: number for monomial, number in terms.items() if number}
        return cls(tuple(sorted(kept.items(), key=lambda term: repr(term[0]))))

    @property
    def number(self) -> int | None:
        """The size where it is a number."""
        if not self.terms:
            return 0
        monomial, number = self.terms[0]
        return number if len(self.terms) == 1 and not monomial else None

    @property
    def is_natural(self) -> bool:
        """Whether no run can make it negative."""
        return all(number > 0 for _, number in self.terms)

    @property
    def name(self) -> Hashable | None:
        """The atom that the size is; None where it is a number, a sum or a product."""
        ((monomial, number),) = self.terms if len(self.terms) == 1 else (((), 0),)
        return monomial[0] if number == 1 and len(monomial) == 1 else None

    @property
    def atoms(self) -> set[Hashable]:
        """What the size is made of besides numbers."""
        return {atom for monomial, _ in self.terms for atom in monomial}

    def valued(self, numbers: Mapping[str, int]) -> int | None:
        """The size with numbers in the places of its atoms; None where one is not among them."""
        result = 0
        for monomial, number in self.terms:
            known = [numbers.get(atom) if isinstance(atom, str) else None for atom in monomial]
            if None in known:
                return None
            result += number * math.prod(item for item in known if item is not None)
        return result

    @property
    def asked(self) -> Size:
        """The size that was asked for, of the first elements of a longer axis."""
        match self.name:
            case ("min", _, tuple(terms)):
                return Size(terms).asked
        return self

    def least(self, bound: int) -> Size:
        """The smaller of a size and a number above 1, such as the length of a part of a table."""
        number = self.number
        if number is not None:
            return Size.of(min(number, bound))
        return Size.atom(("min", bound, self.terms))

    def written(self, name: Callable[[Hashable], str]) -> str:
        """As text, such as `4*batch` or `past + sequence`, with a name for each atom."""
        parts = []
        for monomial, number in self.terms:
            factors = [str(number)] if number != 1 or not monomial else []
            parts.append("*".join([*factors, *map(name, monomial)]))
        return " + ".join(sorted(parts)) or "0"

    def __add__(self, other: Size) -> Size:
        terms = Counter(dict(self.terms))
        terms.update(dict(other.terms))
        return Size._made(terms)

    def __neg__(self) -> Size:
        return Size(tuple((monomial, -number) for monomial, number in self.terms))

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __mul__(self, other: Size) -> Size:
        terms: Counter[Monomial] = Counter()
        for first, number in self.terms:
            for second, factor in other.terms:
                terms[tuple(sorted(first + second, key=repr))] += number * factor
        return Size._made(terms)

    def divided(self, other: Size) -> Size | None:
        """The quotient where the division leaves nothing whatever the atoms are; else None."""
        if len(other.terms) != 1:
            return Size.of(1) if self == other and self.terms else None
        divisor, factor = other.terms[0]
        terms: dict[Monomial, int] = {}
        for monomial, number in self.terms:
            rest = Counter(monomial)
            rest.subtract(divisor)
            if number % factor or any(count < 0 for count in rest.values()):
                return None
            terms[tuple(sorted(rest.elements(), key=repr))] = number // factor
        return Size._made(terms)

    def floored(self, other: Size) -> Size:
        """The quotient rounded down; an atom of its own where that is no polynomial."""
        exact = self.divided(other)
        first, second = self.number, other.number
        if exact is not None:
            return exact
        if first is not None and second:
            return Size.of(first // second)
        return Size.atom(("floor", self.terms, other.terms))


ONE = Size.of(1)


def product(sizes: Iterable[Size]) -> Size:
    """All of them multiplied."""
    result = ONE
    for size in sizes:
        result = result * size
    return result


def agree(first: Size, second: Size) -> bool:
    """Whether two sizes of operands are equal in every run that does not fail.

    A part of a table is as long as asked for, or the table is too short and the run fails: the
    two sizes differ, and neither is 1.
    """
    return first == second or first.asked == second.asked
