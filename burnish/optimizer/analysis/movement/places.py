"""Maps of places: element i of what is made is element `places[i]` of what it is made from."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int32]


def identity(places: Places, count: int) -> bool:
    """Whether each of `count` elements stays where it is."""
    return len(places) == count and bool((places == np.arange(count, dtype=np.int32)).all())


def width(places: Places, count: int) -> int:
    """Length of the longest rows that are moved whole, out of rows of a source of `count`."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate(([0], breaks))]
    return int(np.gcd.reduce(np.concatenate((breaks, starts, [len(places), count]))))


def rows_of(places: Places, length: int) -> Places:
    """The map of rows of that length, which have to be moved whole."""
    return np.asarray(places[::length] // length, np.int32)


def inverted(places: Places, count: int) -> Places | None:
    """The map that undoes a map; None where it leaves elements out or repeats some."""
    if len(places) != count:
        return None
    back = np.full(count, -1, np.int32)
    back[places] = np.arange(count, dtype=np.int32)
    return None if (back < 0).any() else back


def spread(rows: Places, length: int) -> Places:
    """The map of elements that moves rows of that length."""
    return np.asarray(rows[:, None] * length + np.arange(length), np.int32).reshape(-1)


def strides(places: Places) -> list[tuple[int, int]] | None:
    """The axes, as (length, stride in the source), whose transposition a map is; None if none is.

    Axes come in the order of what is made, the last one fastest. In the source, where they are
    sorted by their strides, they are dense.
    """
    axes: list[tuple[int, int]] = []
    rest = places
    if rest[0] != 0:
        return None
    while len(rest) > 1:
        step = int(rest[1])
        other = np.flatnonzero(np.diff(rest) != step)
        length = int(other[0]) + 1 if len(other) else len(rest)
        if len(rest) % length or step < 1:
            return None
        table = rest.reshape(-1, length)
        if (table != table[:, :1] + step * np.arange(length, dtype=np.int32)).any():
            return None
        axes.insert(0, (length, step))
        rest = table[:, 0]
    dense = 1
    for length, step in sorted(axes, key=lambda axis: axis[1]):
        if step != dense:
            return None
        dense *= length
    return axes if dense == math.prod(length for length, _ in axes) == len(places) else None
