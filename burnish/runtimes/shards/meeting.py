"""Where ranks meet: they add up what each has, or put it beside each other.

A sum is spread and gathered: each rank adds up one slice of what all ranks have, in the order of
the ranks, so that it is the same in every run; then each reads all slices.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from burnish.optimizer.errors import WorkerFailed
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.memory import ALIGNMENT, Region


class Meeting(Protocol):
    """What one rank sees of it. All ranks call the same, in the same order."""

    def add(self, array: Array) -> Array:
        """The sum of what all ranks give, of the same shape and type."""

    def gather(self, array: Array, axis: int, sizes: Sequence[int]) -> Array:
        """What all ranks give beside each other along an axis, of which each has so much."""

    def abort(self) -> None:
        """Let the others go on with an error, since this rank does not come."""

    def reset(self) -> None:
        """Begin anew after an error, once no rank is in it."""


def slice_of(count: int, rank: int, ranks: int) -> slice:
    """The elements of `count` that a rank adds up."""
    return slice(count * rank // ranks, count * (rank + 1) // ranks)


def summed(arrays: Sequence[Array], out: Array) -> None:
    """Add arrays up in their order; half types in float32, and rounded once."""
    if out.dtype.itemsize >= 4:
        np.copyto(out, arrays[0])
        for array in arrays[1:]:
            np.add(out, array, out=out)
        return
    total = arrays[0].astype(np.float32)
    for array in arrays[1:]:
        total += array
    np.copyto(out, total.astype(out.dtype))


class Table:
    """Where the ranks of one process meet.

    Args:
        ranks: how many.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.given: list[Array] = [np.empty(0)] * ranks
        self.result: Array = np.empty(0)
        self.barrier = threading.Barrier(ranks)

    def seat(self, rank: int) -> Meeting:
        """What a rank sees of it."""
        return _Seat(self, rank)


class _Seat:
    """A rank's place at a table; see `Meeting`."""

    def __init__(self, table: Table, rank: int) -> None:
        self._table, self._rank = table, rank

    def add(self, array: Array) -> Array:
        table = self._table
        self._give(array, lambda: np.empty_like(array, order="C"))
        own = slice_of(array.size, self._rank, table.ranks)
        result = table.result
        summed([item.reshape(-1)[own] for item in table.given], result.reshape(-1)[own])
        self._wait()
        return result

    def gather(self, array: Array, axis: int, sizes: Sequence[int]) -> Array:
        table = self._table

        def whole() -> Array:
            shape = list(array.shape)
            shape[axis] = sum(sizes)
            return np.empty(shape, array.dtype)

        self._give(array, whole)
        result, start = table.result, sum(sizes[: self._rank])
        place = [slice(None)] * array.ndim
        place[axis] = slice(start, start + sizes[self._rank])
        np.copyto(result[tuple(place)], array)
        self._wait()
        return result

    def _give(self, array: Array, make: Callable[[], Array]) -> None:
        self._table.given[self._rank] = np.ascontiguousarray(array)
        if self._rank == 0:
            self._table.result = make()
        self._wait()

    def _wait(self) -> None:
        try:
            self._table.barrier.wait()
        except threading.BrokenBarrierError:
            raise WorkerFailed("another rank failed") from None

    def abort(self) -> None:
        self._table.barrier.abort()

    def reset(self) -> None:
        self._table.barrier.reset()


GONE = 1 << 32
"""What a rank rings that does not come: more than all ranks ring together."""


class Board:
    """Where a rank of several processes meets the others; see `Meeting`.

    Whoever comes rings the bells of the others, and waits until all have rung its own. There are
    two bells for each rank, used in turn: who is fast rings for the next meeting while others have
    not counted to the end of this one.

    Args:
        rank: which one.
        memory: that all share.
        bells: of each rank, two `eventfd`s.
    """

    def __init__(self, rank: int, memory: Region, bells: Sequence[tuple[int, int]]) -> None:
        self._rank, self._memory, self._bells = rank, memory, bells
        self._turn = 0

    def add(self, array: Array) -> Array:
        """See `Meeting`."""
        ranks = len(self._bells)
        places = self._places(array.shape, array.dtype, ranks + 1)
        np.copyto(places[self._rank], array)
        self._wait()
        own = slice_of(array.size, self._rank, ranks)
        summed([item.reshape(-1)[own] for item in places[:ranks]], places[ranks].reshape(-1)[own])
        self._wait()
        return places[ranks].copy()

    def gather(self, array: Array, axis: int, sizes: Sequence[int]) -> Array:
        """See `Meeting`."""
        shape = list(array.shape)
        shape[axis] = sum(sizes)
        (whole,) = self._places(shape, array.dtype, 1)
        start = sum(sizes[: self._rank])
        place = [slice(None)] * array.ndim
        place[axis] = slice(start, start + sizes[self._rank])
        np.copyto(whole[tuple(place)], array)
        self._wait()
        found = whole.copy()
        self._wait()  # nobody writes what another one still reads
        return found

    def _places(self, shape: Sequence[int], kind: np.dtype, count: int) -> list[Array]:
        size = math.prod(shape) * kind.itemsize
        step = -(-size // ALIGNMENT) * ALIGNMENT
        view = self._memory.view(max(1, step * count))
        return [np.ndarray(shape, kind, view, index * step) for index in range(count)]

    def _wait(self) -> None:
        turn, self._turn = self._turn, 1 - self._turn
        for rank, bells in enumerate(self._bells):
            if rank != self._rank:
                os.eventfd_write(bells[turn], 1)
        rung, wanted = 0, len(self._bells) - 1
        while rung < wanted:
            rung += os.eventfd_read(self._bells[self._rank][turn])
        if rung > wanted:
            raise WorkerFailed("another rank failed")

    def abort(self) -> None:
        """See `Meeting`."""
        for rank, bells in enumerate(self._bells):
            if rank != self._rank:
                for bell in bells:
                    os.eventfd_write(bell, GONE)

    def reset(self) -> None:
        """See `Meeting`."""
        self._turn = 0
        for bell in self._bells[self._rank]:
            os.set_blocking(bell, False)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(bell)
            os.set_blocking(bell, True)
