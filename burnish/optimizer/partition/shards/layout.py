"""How a value lies on ranks: whole on each, or split along axes into parts that may overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from burnish.optimizer.contract import Array


@dataclass(frozen=True)
class Parts:
    """Which elements of an axis each rank has, in their order.

    An axis whose size is not fixed may repeat a pattern that is: of rows that are batches times
    heads, the pattern is the heads'.

    Attributes:
        ranks: how many there are.
        size: elements of the axis, or of the pattern that it repeats.
        bits: whether a rank has an element, [ranks, size], one byte each.
    """

    ranks: int
    size: int
    bits: bytes

    @classmethod
    def of(cls, mask: Array) -> Parts:
        """The parts by a mask, [ranks, size] bool."""
        return cls(mask.shape[0], mask.shape[1], np.ascontiguousarray(mask, bool).tobytes())

    @cached_property
    def mask(self) -> Array:
        """[ranks, size] bool."""
        return np.frombuffer(self.bits, bool).reshape(self.ranks, self.size)

    def indices(self, rank: int) -> Array:
        """What a rank has."""
        return np.flatnonzero(self.mask[rank])

    def count(self, rank: int) -> int:
        """How many elements a rank has."""
        return int(self.mask[rank].sum())

    def counted(self, rank: int, size: int) -> int:
        """The same of an axis of that size, which may repeat the pattern."""
        return self.count(rank) * size // self.size

    def repeated(self, size: int) -> Array:
        """The mask of an axis of that size."""
        return np.tile(self.mask, (1, size // self.size))

    @property
    def share(self) -> float:
        """Of the rank that has most, what it has of all."""
        return float(self.mask.sum(axis=1).max()) / self.size

    def ranges(self) -> list[list[int]] | None:
        """First element and end of each rank's part; None where one has gaps."""
        found = []
        for rank in range(self.ranks):
            indices = self.indices(rank)
            if not len(indices) or indices[-1] - indices[0] + 1 != len(indices):
                return None
            found.append([int(indices[0]), int(indices[-1]) + 1])
        return found


@dataclass(frozen=True)
class Layout:
    """The axes along which a value is split; none where it is whole.

    Attributes:
        axes: axis, from 0, and its parts, in order.
    """

    axes: tuple[tuple[int, Parts], ...] = ()

    @classmethod
    def of(cls, axes: Mapping[int, Parts]) -> Layout:
        """The layout by axes, without those of which each rank has everything."""
        split = {axis: parts for axis, parts in axes.items() if not parts.mask.all()}
        return cls(tuple(sorted(split.items(), key=lambda item: item[0])))

    def __bool__(self) -> bool:
        return bool(self.axes)

    def __getitem__(self, axis: int) -> Parts | None:
        return dict(self.axes).get(axis)

    @property
    def share(self) -> float:
        """Of the rank that has most, what it has of all."""
        if not self.axes:
            return 1.0
        counts = [parts.mask.sum(axis=1) / parts.size for _, parts in self.axes]
        return float(np.prod(counts, axis=0).max())

    def local(self, rank: int, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape on a rank of a value of that shape."""
        known = dict(self.axes)
        return tuple(
            known[axis].counted(rank, size) if axis in known else size
            for axis, size in enumerate(shape)
        )


WHOLE = Layout()


def joined(first: Layout, second: Layout) -> Layout:
    """What has all that either has, as far as one set of parts per axis says that."""
    if first == second:
        return first
    one, other = dict(first.axes), dict(second.axes)
    differing = [axis for axis in one if one[axis] != other.get(axis)]
    alike = one.keys() == other.keys() and len(differing) == 1
    if not alike or one[differing[0]].size != other[differing[0]].size:
        return WHOLE
    axis = differing[0]
    return Layout.of(one | {axis: Parts.of(one[axis].mask | other[axis].mask)})


def positions(has: Layout, wants: Layout, axis: int, rank: int, size: int) -> Array | None:
    """Where what is wanted of an axis lies in what is there; None where that is all of it."""
    have, want = has[axis], wants[axis]
    if have == want:
        return None
    if want is None:
        raise ValueError("a whole axis cannot be taken of a part")
    there = have.indices(rank) if have is not None else np.arange(size)
    return np.searchsorted(there, want.indices(rank))


def factors(mask: Array, sizes: Sequence[int]) -> list[Array] | None:
    """Masks of axes of which one axis is made, whose product is its mask; None where none are.

    Args:
        mask: [ranks, size].
        sizes: of the axes, the outermost first.

    Returns:
        For each axis a mask, [ranks, its size].
    """
    grid = mask.reshape(mask.shape[0], *sizes)
    every = tuple(range(1, len(sizes) + 1))
    found = [
        np.asarray(grid.any(axis=tuple(other for other in every if other != axis + 1)))
        for axis in range(len(sizes))
    ]
    return found if (flattened(found) == mask).all() else None


def flattened(masks: Sequence[Array]) -> Array:
    """The mask of an axis that is made of axes, [ranks, product of their sizes]."""
    result = masks[0]
    for mask in masks[1:]:
        result = (result[:, :, None] & mask[:, None, :]).reshape(mask.shape[0], -1)
    return result


def divided(size: int, ranks: int, units: Iterable[int] = ()) -> Parts | None:
    """Parts of an axis of equal size, or nearly, none of which cuts a unit without need.

    With fewer units of a size than ranks (keys that several heads share), the ranks are spread
    over these units, and each is divided by the next smaller size.

    Args:
        size: elements of the axis.
        ranks: how many parts.
        units: sizes of what belongs together; only those that divide the axis count.

    Returns:
        None where there are too few units of the smallest size for so many ranks.
    """
    whole = sorted({unit for unit in units if unit < size and size % unit == 0}, reverse=True)
    bounds = _divided(0, size, ranks, whole or [1])
    if bounds is None:
        return None
    mask = np.zeros((ranks, size), bool)
    for rank, (start, end) in enumerate(bounds):
        mask[rank, start:end] = True
    return Parts.of(mask)


def _divided(start: int, size: int, ranks: int, units: Sequence[int]) -> list[list[int]] | None:
    if ranks == 1:
        return [[start, start + size]]
    unit, count = units[0], size // units[0]
    if math.gcd(unit, size) != unit:
        return None
    if count >= ranks:
        return [[start + unit * a, start + unit * b] for a, b in _even(count, ranks)]
    if len(units) == 1:
        return None
    found: list[list[int]] = []
    for index, (first, last) in enumerate(_even(ranks, count)):
        inside = _divided(start + index * unit, unit, last - first, units[1:])
        if inside is None:
            return None
        found += inside
    return found


def _even(count: int, parts: int) -> list[tuple[int, int]]:
    ends = [-(-count * index // parts) for index in range(parts + 1)]
    return list(itertools.pairwise(ends))
