"""Requests that are run as one: rows of several feeds behind each other, and split again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.requests import Request

ALIKE = 0.75
"""The shortest feed that is joined to another has so much of its length."""

SEEN = 256
"""Requests in a queue that are looked at for such as go together."""

Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Joiner:
    """How feeds of a model are joined.

    Attributes:
        most: requests that are joined at most.
        inputs: the axes that each has for the length, by name; empty where only feeds of the same
            shapes are joined.
        outputs: likewise.
    """

    most: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]

    def mates(self, first: Request, waiting: Iterable[Request]) -> list[Request]:
        """Those of the requests that wait that go with the first one."""
        found: list[Request] = []
        kept, length = self._rest(first.feed), self.length(first.feed)
        for place, request in enumerate(waiting):
            if len(found) + 1 >= self.most or place >= SEEN:
                break
            alike = (
                request.route == first.route
                and not request.alone
                and not request.pinned
                and not first.pinned
                and self._rest(request.feed) == kept
            )
            if alike and ALIKE <= self.length(request.feed) / max(length, 1) <= 1 / ALIKE:
                found.append(request)
        return found

    def length(self, feed: Feed) -> int:
        """The size of the axes of length; 1 where there are none."""
        for name, axes in self.inputs.items():
            if axes:
                return int(feed[name].shape[axes[0]])
        return 1

    def _rest(self, feed: Feed) -> dict[str, tuple[object, ...]]:
        """What has to be the same: types, and sizes of other axes than rows and length."""
        found: dict[str, tuple[object, ...]] = {}
        for name, array in feed.items():
            free = {0, *self.inputs.get(name, ())}
            sizes = [size for axis, size in enumerate(array.shape) if axis not in free]
            found[name] = (array.dtype, array.ndim, *sizes)
        return found

    def join(self, feeds: Sequence[Feed]) -> dict[str, Array]:
        """One feed with the rows of all; shorter ones are padded with zeros at their ends."""
        longest = max(self.length(feed) for feed in feeds)
        found = {}
        for name in feeds[0]:
            axes = self.inputs.get(name, ())
            found[name] = np.concatenate([padded(feed[name], axes, longest) for feed in feeds])
        return found

    def split(self, feeds: Sequence[Feed], outputs: Mapping[str, Array]) -> list[dict[str, Array]]:
        """What belongs to each feed, without what belongs to padding."""
        found, start = [], 0
        for feed in feeds:
            rows = next(iter(feed.values())).shape[0]
            own = {}
            for name, array in outputs.items():
                part = array[start : start + rows]
                for axis in self.outputs.get(name, ()):
                    part = part.take(range(self.length(feed)), axis)
                own[name] = part.copy()
            found.append(own)
            start += rows
        return found


def padded(array: Array, axes: Sequence[int], length: int) -> Array:
    """Zeros behind the ends of some axes, up to a length."""
    if all(array.shape[axis] == length for axis in axes):
        return array
    widths = [(0, length - size if axis in axes else 0) for axis, size in enumerate(array.shape)]
    return np.pad(array, widths)
