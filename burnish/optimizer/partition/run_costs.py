"""What runs of a chain cost on a device, or on a group of equal devices that compute them together.

A group of t devices shares out operators as `shards` says: of each, a share of the work and of the
weights, and bytes that are added up over the group behind it. That takes a ring
(Patarasuk and Yuan 2009): 2 (t - 1) / t of the bytes over each link, in 2 (t - 1) messages.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.classes import Classes
from burnish.optimizer.partition.cluster import Cluster, Device, Link

Numbers = np.ndarray

ROUNDING = 1e-12
"""What sums of the same numbers may differ by, relative to them."""


class Share(Protocol):
    """What one device of a group has of an operator.

    Attributes:
        share: of its operations and bytes.
        weights: bytes of weights.
        reduced: bytes that are added up over the group, or gathered, behind it.
    """

    @property
    def share(self) -> float: ...

    @property
    def weights(self) -> float: ...

    @property
    def reduced(self) -> float: ...


Shares = Mapping[int, Sequence[Share]]
"""By the size of a group, the shares of all operators."""


@dataclass(frozen=True)
class Unit:
    """What computes a stage: so many devices of a class."""

    index: int
    size: int = 1


def ring(moved: float, size: int, link: Link) -> float:
    """Seconds in which bytes are added up over a group."""
    if not moved or size < 2:
        return 0.0
    return 2 * (size - 1) * (moved / size / link.bandwidth + link.latency)


class RunCosts:
    """Costs of a chain on a cluster.

    Attributes:
        units: what can compute a stage: single devices where `single`, and groups.
        carried: bytes that cross the place behind each operator.
    """

    def __init__(
        self, chain: Chain, cluster: Cluster, shares: Shares | None = None, single: bool = True
    ) -> None:
        self.chain, self.size = chain, len(chain)
        self.carried = np.array(chain.carried, float)
        self._shares = shares or {}
        self._sizes = sorted({*([1] if single else []), *self._shares})
        self._times: dict[object, Numbers] = {}
        self._rooms: dict[object, Numbers] = {}
        self._held: dict[int, Numbers] = {}
        self._take(cluster)

    def on(self, cluster: Cluster) -> RunCosts:
        """The same costs on some of the devices."""
        found = copy.copy(self)
        found._take(cluster)
        return found

    def _take(self, cluster: Cluster) -> None:
        self.cluster, self.classes = cluster, Classes(cluster)
        self.units = [
            Unit(index, size)
            for size in self._sizes
            for index, devices in enumerate(self.classes.devices)
            if len(devices) >= size
        ]

    def device(self, unit: Unit) -> Device:
        """One of the unit's devices."""
        return self.classes.devices[unit.index][0]

    def times(self, unit: Unit) -> Numbers:
        """Seconds of the first operators: [operators + 1], from 0 up."""
        device, link = self.device(unit), self.classes.links[unit.index][unit.index]
        key = device.kind, unit.size, link if unit.size > 1 else None
        if key not in self._times:
            self._times[key] = np.concatenate([[0.0], np.cumsum(self.each(unit))])
        return self._times[key]

    def each(self, unit: Unit) -> Numbers:
        """Seconds of each operator."""
        device, atoms = self.device(unit), self.chain.atoms
        alone = np.array([device.seconds(atom.flops, atom.moved, atom.kind) for atom in atoms])
        if unit.size == 1:
            return alone
        shares = np.array([item.share for item in self._shares[unit.size]])
        together: Numbers = alone * shares + self._sums(unit)
        return together

    def reduces(self, unit: Unit, start: int, end: int) -> float:
        """Seconds in which a group adds up partial sums of a run."""
        return float(self._sums(unit)[start:end].sum()) if unit.size > 1 else 0.0

    def _sums(self, unit: Unit) -> Numbers:
        link = self.classes.links[unit.index][unit.index]
        items = self._shares[unit.size]
        return np.array([ring(item.reduced, unit.size, link) for item in items])

    def memory(self, unit: Unit, start: int, end: int) -> float:
        """Bytes of weights and caches of a run, on each device."""
        whole = self.chain.memory(start, end)
        if unit.size == 1:
            return whole
        held = self._shared_memory(unit.size)
        return min(whole, float(held[end] - held[start]))

    def _shared_memory(self, size: int) -> Numbers:
        if size not in self._held:
            pairs = zip(self.chain.atoms, self._shares[size], strict=True)
            # A weight that several operators read is counted with one; each of them needs it.
            held = [
                max(item.weights, (self.chain.memory(i, i + 1) - atom.state) * item.share)
                + atom.state * item.share
                for i, (atom, item) in enumerate(pairs)
            ]
            self._held[size] = np.concatenate([[0.0], np.cumsum(held)])
        return self._held[size]

    def rooms(self, unit: Unit) -> Numbers:
        """Of each place, the last one up to which memory holds a run: [operators + 1]."""
        memory = self.device(unit).memory
        key = memory, unit.size
        if key not in self._rooms:
            ends = np.full(self.size + 1, self.size)
            if self.memory(unit, 0, self.size) > memory:
                end = 0
                for start in range(self.size):
                    end = max(end, start)
                    while end < self.size and self.memory(unit, start, end + 1) <= memory:
                        end += 1
                    ends[start] = end
            self._rooms[key] = ends
        return self._rooms[key]

    def furthest(self, unit: Unit, limit: float) -> Numbers:
        """Of each place, the last one to which a unit gets in a time: [operators + 1]."""
        times = self.times(unit)
        ends = np.searchsorted(times, times + limit * (1.0 + ROUNDING), side="right") - 1
        found: Numbers = np.minimum(ends, self.rooms(unit))
        return found

    def link(self, one: Unit, two: Unit) -> Link:
        """The link over which one unit hands on to another: the ranks of groups send at once."""
        return self.classes.links[one.index][two.index]

    def sends(self, link: Link) -> Numbers:
        """Seconds in which what crosses each place is handed on."""
        found: Numbers = link.latency + self.carried / link.bandwidth
        return found
