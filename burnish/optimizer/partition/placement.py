"""Sets of devices by how many of each kind they have, and which devices they are then."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from burnish.optimizer.partition.cluster import Cluster, Device

Counts = tuple[int, ...]
"""How many devices of each kind a set has."""

FEW = 8
"""Numbers of devices of a kind up to which all are tried; beyond, about four to each doubling."""


class Kinds:
    """The devices of a cluster by kind.

    Attributes:
        whole: the set of all devices.
        states: how many different sets there are.
    """

    def __init__(self, cluster: Cluster) -> None:
        found: dict[object, list[Device]] = {}
        for device in cluster.devices:
            found.setdefault(device.kind, []).append(device)
        self._devices = list(found.values())
        self.whole = tuple(len(devices) for devices in self._devices)
        self.states = math.prod(count + 1 for count in self.whole)

    def sets(self) -> list[Counts]:
        """Sets that are worth a look, small ones first; that of all devices is one of them."""
        found = itertools.product(*(_steps(count) for count in self.whole))
        return sorted(
            (counts for counts in found if any(counts)), key=lambda item: (sum(item), item)
        )

    def first(self, counts: Counts) -> list[Device]:
        """A set by the first devices of each kind."""
        pairs = zip(self._devices, counts, strict=True)
        return [device for devices, count in pairs for device in devices[:count]]

    def dealt(self, parts: int) -> list[list[Device]]:
        """All devices, in parts that are alike but for one device of a kind."""
        found: list[list[Device]] = [[] for _ in range(parts)]
        turn = 0
        for devices in self._devices:
            places = [(turn + index) % parts for index in range(len(devices))]
            turn += len(devices)
            for place, device in zip(sorted(places), devices, strict=True):
                found[place].append(device)
        return [part for part in found if part]

    def placed(self, chosen: Sequence[Counts]) -> list[list[Device]]:
        """Devices for sets, the largest first, each on as few nodes as are free for it."""
        free = [list(devices) for devices in self._devices]
        found = []
        for counts in sorted(chosen, key=sum, reverse=True):
            taken: list[Device] = []
            for devices, count in zip(free, counts, strict=True):
                for _ in range(count):
                    taken.append(_next(devices, count, Counter(item.node for item in taken)))
                    devices.remove(taken[-1])
            found.append(taken)
        return found


def _next(free: Sequence[Device], wanted: int, here: Mapping[str, int]) -> Device:
    """A device of a node that is in use already, or of the one that just has room."""
    room = Counter(device.node for device in free)

    def order(device: Device) -> tuple[bool, int, int]:
        count = room[device.node]
        return (not here.get(device.node), -count if count < wanted else 0, count)

    return min(free, key=order)


def _steps(count: int) -> list[int]:
    steps, step = list(range(min(count, FEW) + 1)), FEW
    while (step := step * 5 // 4) < count:
        steps.append(step)
    return steps if count in steps else [*steps, count]


def packed(whole: Counts, rates: Mapping[Counts, float], count: int | None) -> list[Counts]:
    """The sets, disjoint, whose rates have the largest sum.

    Args:
        whole: all that there is.
        rates: of the sets that may be taken, as often as there is room.
        count: how many to take; None for any number.

    Returns:
        Nothing where so many cannot be taken.
    """
    grid = [*itertools.product(*(range(number + 1) for number in whole))]
    grid.sort(key=sum)
    nothing: dict[Counts, tuple[float, tuple[Counts, ...]]] = {item: (0.0, ()) for item in grid}
    before = nothing
    for _ in range(1 if count is None else count):
        best: dict[Counts, tuple[float, tuple[Counts, ...]]] = {}
        for room in grid:
            options = []
            for counts, rate in rates.items():
                rest = tuple(map(int.__sub__, room, counts))
                source = best if count is None else before
                if min(rest) >= 0 and (rest in source or count is None):
                    value, sets = source.get(rest, (0.0, ()))
                    options.append((value + rate, (*sets, counts)))
            for index in range(len(room)):
                smaller = (*room[:index], room[index] - 1, *room[index + 1 :])
                if smaller in best:
                    options.append(best[smaller])
            if options:
                best[room] = max(options, key=lambda item: item[0])
        before = best
    return list(before.get(whole, (0.0, ()))[1])
