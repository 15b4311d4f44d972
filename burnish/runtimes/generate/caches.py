"""What a decoder has cached of a batch, in either of the layouts that artifacts have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.optimizer.static_caches import POSITIONS
from burnish.runtimes.generate.ports import Cache, heads_and_size
from burnish.runtimes.generate.sequences import Array, Integers
from burnish.runtimes.resident import ArraySession, Resident, ResidentSession

LEAST_GROWTH, GROWTH = 32, 8
"""A full buffer gets room for so many tokens more, or for one part in so many of those it holds."""


class Caches(Protocol):
    """Keys and values of the tokens before a run."""

    def residents(self) -> dict[str, Resident]:
        """What a run is given, by input."""

    def mask(self, used: Integers, start: int, end: int) -> Integers:
        """The mask that goes with that, of tokens start to end behind those before.

        `used` [rows, tokens] is 0 where a token counts for nothing.
        """

    def put(self, presents: Sequence[Resident], start: int, end: int) -> None:
        """Take in what a run gave for tokens start to end."""

    def cut(self, length: int) -> None:
        """Forget what was seen after so many tokens."""

    def rows(self, index: Integers) -> None:
        """Go on with these rows, in that order."""


def caches_of(
    session: ResidentSession, caches: Sequence[Cache], rows: int, capacity: int
) -> Caches:
    """Empty caches of a batch, in the layout of the artifact.

    Args:
        session: of the decoder.
        caches: its ports.
        rows: of the batch.
        capacity: tokens of a row at most.

    Raises:
        UsageError: the layout is none for the session's device.
    """
    if not session.static:
        return GrowingCaches(session, caches, rows)
    if not isinstance(session, ArraySession):
        raise UsageError(
            "caches of a fixed capacity are written by the processor",
            hint="--provider cpu, or an artifact that was made without --kv-cache static",
        )
    return StaticCaches(session, caches, rows, capacity)


class GrowingCaches:
    """Each run gives all keys and values, which go to the next; see `Caches`."""

    def __init__(self, session: ResidentSession, caches: Sequence[Cache], rows: int) -> None:
        self._session, self._names = session, [cache.past.name for cache in caches]
        self._values = []
        for cache in caches:
            heads, size = heads_and_size(cache.past)
            self._values.append(session.empty(cache.past, (rows, heads, 0, size)))

    def residents(self) -> dict[str, Resident]:
        return dict(zip(self._names, self._values, strict=True))

    def mask(self, used: Integers, start: int, end: int) -> Integers:
        return np.ascontiguousarray(used[:, :end])

    def put(self, presents: Sequence[Resident], start: int, end: int) -> None:
        self._values = list(presents)

    def cut(self, length: int) -> None:
        self._values = self._session.cut(self._values, length)

    def rows(self, index: Integers) -> None:
        self._values = self._session.rows(self._values, index)


class StaticCaches:
    """Each run gives its own keys and values, which are written into buffers; see `Caches`.

    Buffers have room for more than is cached, and are made anew only when that is full.
    """

    def __init__(
        self, session: ArraySession, caches: Sequence[Cache], rows: int, capacity: int
    ) -> None:
        self._names, self._most, self._room = [cache.past.name for cache in caches], capacity, 0
        self._buffers: list[Array] = []
        for cache in caches:
            heads, size = heads_and_size(cache.past)
            self._buffers.append(session.empty(cache.past, (rows, heads, 0, size)))

    def residents(self) -> dict[str, Resident]:
        return dict(zip(self._names, self._buffers, strict=True))

    def mask(self, used: Integers, start: int, end: int) -> Integers:
        made = np.zeros((len(used), self._room + end - start), used.dtype)
        made[:, :start] = used[:, :start]
        made[:, self._room :] = used[:, start:end]
        return made

    def put(self, presents: Sequence[Resident], start: int, end: int) -> None:
        if end > self._room:
            self._grow(start, end)
        for buffer, present in zip(self._buffers, presents, strict=True):
            buffer[:, :, start:end] = present

    def _grow(self, start: int, end: int) -> None:
        """Make room; what is cached keeps its place."""
        room = min(end + max(LEAST_GROWTH, end // GROWTH), max(self._most, end))
        for index, buffer in enumerate(self._buffers):
            shape = list(buffer.shape)
            shape[POSITIONS] = room
            self._buffers[index] = np.zeros(shape, buffer.dtype)
            self._buffers[index][:, :, :start] = buffer[:, :, :start]
        self._room = room

    def cut(self, length: int) -> None:
        """Nothing is to be done: what lies behind is hidden, and written over."""

    def rows(self, index: Integers) -> None:
        self._buffers = [buffer[index] for buffer in self._buffers]
