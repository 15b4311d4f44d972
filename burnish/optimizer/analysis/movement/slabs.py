"""Values as equally many equal parts, of which only the number is left open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from burnish.optimizer.analysis.sizes import ONE, Shape, Size


@dataclass(frozen=True)
class Slabs:
    """A value that consists of `lead` parts, one after the other, of `shape` each.

    A value of fixed sizes is one part. Of [64 * batch, 49, 96] there are `batch`, of
    [64, 49, 96] each.
    """

    lead: Size
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements of a part."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """Rows of a part along its last axis."""
        return math.prod(self.shape[:-1])

    @property
    def open(self) -> bool:
        """Whether the number of parts is not known before a run."""
        return self.lead != ONE

    def sizes(self) -> list[int]:
        """The sizes of the whole as a Reshape is told them: -1 where the first is open."""
        return [-1 if self.open else self.shape[0], *self.shape[1:]]


def slabs_of(shape: Shape | None) -> Slabs | None:
    """A shape as slabs; None where another axis than the first is open, or any is 0."""
    if not shape:
        return None
    rest = [size.number for size in shape[1:]]
    first = shape[0]
    if len(first.terms) != 1 or any(not size for size in rest):
        return None
    ((monomial, number),) = first.terms
    if number < 1:
        return None
    known = tuple(size for size in rest if size is not None)
    return Slabs(Size(((monomial, 1),)), (number, *known))
