"""Sizes as products: a number times symbols, so that `batch * 12 * sequence` can be compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Extent = tuple[int, tuple[str, ...]]
"""A number, and the sorted names of the symbols that it is multiplied with."""

Sizes = tuple[Extent, ...]

ONE: Extent = (1, ())


def symbol(name: str) -> Extent:
    """A size that is known by its name only."""
    return 1, (name,)


def number(size: Extent) -> int | None:
    """The size as a number; None where it is not known before a run."""
    return size[0] if not size[1] else None


def product(sizes: Sequence[Extent]) -> Extent:
    """The product of sizes, which is the number of elements of a value of these sizes."""
    names = sorted(name for size in sizes for name in size[1])
    return math.prod(size[0] for size in sizes), tuple(names)


def divided(size: Extent, by: Extent) -> Extent | None:
    """The size divided by another; None where that is no product again."""
    if by[0] == 0 or size[0] % by[0]:
        return None
    left, taken = Counter(size[1]), Counter(by[1])
    if taken - left:
        return None
    return size[0] // by[0], tuple(sorted((left - taken).elements()))


def least(size: Extent, bound: int) -> Extent:
    """The smaller of a size and a number above 1, such as the length of a slice of a table."""
    known = number(size)
    if known is not None:
        return min(known, bound), ()
    return symbol(f"min({bound}, {written(size)})")


def agree(first: Extent, second: Extent) -> bool:
    """Whether two sizes of operands are equal in every run that does not fail.

    A part of a table is as long as asked for, or the table is too short and the run fails: the
    two sizes differ, and neither is 1.
    """
    return first == second or _asked(first) == _asked(second)


def _asked(size: Extent) -> str:
    name = written(size)
    while name.startswith("min("):
        name = name.split(", ", 1)[1][:-1]
    return name


def written(size: Extent) -> str:
    """The size as text."""
    names = [*([str(size[0])] if size[0] != 1 or not size[1] else []), *size[1]]
    return "*".join(names)


def parsed(text: str, known: set[str]) -> Extent | None:
    """The size that a product of known names and numbers is; None for other texts."""
    factors = [factor.strip() for factor in text.split("*")]
    if not all(factor in known or factor.isdecimal() for factor in factors):
        return None
    return product([(int(item), ()) if item.isdecimal() else symbol(item) for item in factors])


def broadcast(shapes: Sequence[Sizes]) -> list[Extent | None]:
    """The shape of operands together; None for an axis where that is not certain."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Extent | None] = []
    for axis in range(-rank, 0):
        sizes = [shape[axis] for shape in shapes if -axis <= len(shape)]
        wide = [size for size in sizes if size != ONE]
        fixed = [size for size in wide if number(size) is not None]
        if not wide:
            result.append(ONE)
        elif all(agree(wide[0], size) for size in wide):
            result.append(min(wide, key=lambda size: len(written(size))))
        else:
            result.append(fixed[0] if fixed else None)
    return result
