"""An axis of a value in equal parts, and what moving elements makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from burnish.optimizer.contract import Array


class Coupled(Exception):
    """The channels cannot be removed: why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Coarser(Exception):
    """Units have to be so many times as large, since a node takes as many elements together."""

    def __init__(self, factor: int) -> None:
        super().__init__(str(factor))
        self.factor = factor


@dataclass(frozen=True)
class Axis:
    """An axis whose elements come in units that are kept or removed as a whole.

    Attributes:
        place: its index, from 0.
        count: units along it.
        size: elements of each.
        shared: units of the site that share one of these, as query heads do keys.
    """

    place: int
    count: int
    size: int = 1
    shared: int = 1

    @property
    def length(self) -> int:
        """Elements along it."""
        return self.count * self.size

    def at(self, place: int) -> Axis:
        """The same units along another axis."""
        return replace(self, place=place)

    def units(self, kept: Array) -> Array:
        """Its units, ascending, that kept units of the site need."""
        return np.unique(np.asarray(kept, np.int64) // self.shared)

    def elements(self, kept: Array) -> Array:
        """Its elements, ascending, that kept units of the site need."""
        units = self.units(kept)
        return (units[:, None] * self.size + np.arange(self.size)).reshape(-1)


def reshaped(axis: Axis, before: Sequence[int | None], after: Sequence[int | None]) -> Axis:
    """The axis after elements were put in another shape; sizes that are no numbers are None.

    Raises:
        Coarser: units end in the middle of what becomes one element of an axis.
        Coupled: units are no longer along one axis.
    """
    span = axis.size * _behind(before, axis.place)
    for place in reversed(range(len(after))):
        behind = _behind(after, place)
        size = after[place]
        if size is None or behind == 0 or size * behind != axis.count * span:
            continue
        if span % behind == 0:
            return replace(axis, place=place, size=span // behind)
    for place in reversed(range(len(after))):
        behind = _behind(after, place)
        size = after[place]
        if size is not None and behind and size * behind == axis.count * span:
            raise Coarser(behind // math.gcd(behind, span))
    raise Coupled("a reshape mixes its channels with other axes")


def _behind(shape: Sequence[int | None], place: int) -> int:
    """Elements behind an axis for each of its own; 0 where that is not known."""
    rest = shape[place + 1 :]
    return math.prod(size for size in rest if size is not None) if None not in rest else 0
