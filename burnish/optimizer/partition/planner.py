"""Stages of a pipeline, such that the slowest one is as fast as it can be.

A throughput is reached or it is not: with a limit T for stages and transfers, the devices take as
much of the chain as they can in T, one after the other, and it is enough to know for each number of
devices of each kind how far they get at most, since what starts later needs no more time, memory or
room. T is halved until nothing is left to gain. Apart from that limit nothing is estimated: the
plan is the best there is, of stages that follow each other in the chain, on any order of devices.
Among plans that are as fast but for little, the one is taken that sends the least.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.optimizer.errors import ResourceLimit
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, Device

TOLERANCE = 1e-4
"""How near the search comes to the best limit, relative to it."""

SLACK = 5e-3
"""What the slowest stage may lose where less is sent for it, relative to it."""


@dataclass(frozen=True)
class Stage:
    """Atoms start to end on a device.

    Attributes:
        seconds: of computing.
        sends: seconds in which what crosses its end is handed on; 0 for the last stage.
        carried: bytes of that.
        memory: bytes of weights and caches.
    """

    device: Device
    start: int
    end: int
    seconds: float
    sends: float
    carried: float
    memory: float


@dataclass(frozen=True)
class Plan:
    """Stages in order.

    Attributes:
        bound: seconds that the slowest stage of any plan takes at least; see `bound`.
    """

    stages: tuple[Stage, ...]
    bound: float

    @property
    def bottleneck(self) -> float:
        """Seconds of the slowest stage or transfer: one over the throughput, once it is full."""
        return max(max(item.seconds, item.sends) for item in self.stages)

    @property
    def latency(self) -> float:
        """Seconds of one run by itself."""
        return sum(item.seconds + item.sends for item in self.stages)

    @property
    def gap(self) -> float:
        """How much slower than the bound the slowest stage is, relative to it."""
        return self.bottleneck / self.bound - 1.0 if self.bound else 0.0


def plan(chain: Chain, cluster: Cluster) -> Plan:
    """The stages whose slowest is the fastest.

    Raises:
        ResourceLimit: the model does not fit into the memory of the devices.
    """
    search = _Search(chain, cluster)
    bound = lower_bound(chain, cluster)
    best = search.within(float("inf"))
    if best is None:
        need = chain.memory(0, len(chain))
        have = sum(device.memory for device in cluster.devices)
        raise ResourceLimit(
            f"{need / 1e9:.2f} GB of weights and caches do not fit into {have / 1e9:.2f} GB on "
            f"{len(cluster.devices)} devices", hint="more devices, or --int8",
        )  # fmt: skip
    low, high = bound * (1.0 - TOLERANCE), Plan(best, bound).bottleneck
    while high > low * (1.0 + TOLERANCE):
        middle = (low + high) / 2.0
        found = search.within(middle)
        if found is None:
            low = middle
        else:
            best, high = found, Plan(found, bound).bottleneck
    return Plan(search.frugal(best, high * (1.0 + SLACK)), bound)


def equal_split(chain: Chain, cluster: Cluster) -> Plan | None:
    """Stages of equal work on all devices in their order, which is what a plan is compared with.

    Each cut is moved to where the least crosses within a tenth of a stage. None where that leaves a
    device without work, or its memory does not hold it.
    """
    count, size = len(cluster.devices), len(chain)
    work = [cluster.devices[0].seconds(atom.flops, atom.moved) for atom in chain.atoms]
    sums = list(itertools.accumulate(work, initial=0.0))
    ends, slack = [], sums[-1] / count / 10.0
    for index in range(1, count):
        wanted = sums[-1] * index / count
        first, last = (bisect.bisect_left(sums, wanted + side) for side in (-slack, slack))
        near = range(max(first, 1), max(min(last, size - 1), max(first, 1)) + 1)
        ends.append(min(near, key=lambda end: (chain.carried[min(end, size) - 1], end)))
    places = [0, *ends, size]
    if any(first >= second for first, second in itertools.pairwise(places)):
        return None
    stages = []
    for device, (start, end) in zip(cluster.devices, itertools.pairwise(places), strict=True):
        atoms, last = chain.atoms[start:end], end == size
        carried = 0.0 if last else float(chain.carried[end - 1])
        sends = 0.0 if last else cluster.link.seconds(carried)
        seconds = sum(device.seconds(atom.flops, atom.moved) for atom in atoms)
        memory = chain.memory(start, end)
        stages.append(Stage(device, start, end, seconds, sends, carried, memory))
    fits = all(item.memory <= item.device.memory for item in stages)
    return Plan(tuple(stages), lower_bound(chain, cluster)) if fits else None


Used = tuple[int, ...]
"""Devices of each kind."""


class _Search:
    """Finds stages within a limit."""

    def __init__(self, chain: Chain, cluster: Cluster) -> None:
        self._chain, self._link = chain, cluster.link
        kinds: dict[tuple[float, float, float], list[Device]] = {}
        for device in cluster.devices:
            kinds.setdefault(device.kind, []).append(device)
        self._kinds = list(kinds.values())
        self._sums = [
            list(
                itertools.accumulate(
                    (device.seconds(atom.flops, atom.moved) for atom in chain.atoms), initial=0.0
                )
            )
            for device, *_ in self._kinds
        ]
        self._sends = [cluster.link.seconds(moved) for moved in chain.carried]

    def within(self, limit: float) -> tuple[Stage, ...] | None:
        """Stages of which none takes longer; None where there are no such."""
        size = len(self._chain)
        places = [index for index, send in enumerate(self._sends[:-1], 1) if send <= limit]
        reached: dict[Used, int] = {(0,) * len(self._kinds): 0}
        came: dict[Used, tuple[Used, int]] = {}
        layer = list(reached)
        while layer:
            following: dict[Used, None] = {}
            for used in layer:
                for kind, devices in enumerate(self._kinds):
                    if used[kind] == len(devices):
                        continue
                    end = self._furthest(kind, reached[used], limit, places)
                    more = (*used[:kind], used[kind] + 1, *used[kind + 1 :])
                    if end > reached.get(more, reached[used]):
                        reached[more], came[more] = end, (used, kind)
                        following[more] = None
                    if end == size:
                        return self._stages(more, reached, came)
            layer = list(following)
        return None

    def frugal(self, stages: Sequence[Stage], limit: float) -> tuple[Stage, ...]:
        """The stages on the same devices, in order, that send the least in all within a limit."""
        kinds = [self._kind(stage.device) for stage in stages]
        allowed = [index for index, send in enumerate(self._sends[:-1], 1) if send <= limit]
        # The first place from which the devices from each one on can finish.
        least = [len(self._chain)]
        for kind in reversed(kinds):
            least.append(self._earliest(kind, least[-1], limit, allowed))
        least.reverse()
        best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
        for index, kind in enumerate(kinds):
            following: dict[int, tuple[float, tuple[int, ...]]] = {}
            for start, (cost, ends) in best.items():
                last = self._furthest(kind, start, limit, allowed)
                first = max(start + 1, least[index + 1])
                low, high = (bisect.bisect_left(allowed, item) for item in (first, last + 1))
                places = allowed[low:high] if index + 1 < len(kinds) else [len(self._chain)]
                for end in places if last >= first else ():
                    sent = cost + (self._chain.carried[end - 1] if end < len(self._chain) else 0.0)
                    if sent < following.get(end, (math.inf, ()))[0]:
                        following[end] = sent, (*ends, end)
            best = following
        ends = best[len(self._chain)][1]
        pairs = zip(stages, itertools.pairwise([0, *ends]), strict=True)
        return tuple(self._stage(stage.device, *places) for stage, places in pairs)

    def _kind(self, device: Device) -> int:
        return next(i for i, item in enumerate(self._kinds) if item[0].kind == device.kind)

    def _earliest(self, kind: int, end: int, limit: float, allowed: list[int]) -> int:
        """The first place at which a stage may begin that ends at `end`."""
        sums, device = self._sums[kind], self._kinds[kind][0]
        start = bisect.bisect_left(sums, sums[end] - limit * (1.0 + 1e-12))
        while start < end and self._chain.memory(start, end) > device.memory:
            start += 1
        if start == 0:
            return 0
        index = bisect.bisect_left(allowed, start)
        return allowed[index] if index < len(allowed) else len(self._chain)

    def _furthest(self, kind: int, start: int, limit: float, places: list[int]) -> int:
        """The last place where a stage that begins at `start` may end; `start` where none is."""
        chain, sums, device = self._chain, self._sums[kind], self._kinds[kind][0]
        end = bisect.bisect_right(sums, sums[start] + limit * (1.0 + 1e-12)) - 1
        if chain.memory(start, end) > device.memory:
            fits = range(start, end + 1)
            end = (
                start
                - 1
                + bisect.bisect_right(
                    fits, device.memory, key=lambda item: chain.memory(start, item)
                )
            )
        if end >= len(chain):
            return len(chain)
        index = bisect.bisect_right(places, end) - 1
        return max(start, places[index]) if index >= 0 else start

    def _stages(
        self, used: Used, reached: dict[Used, int], came: dict[Used, tuple[Used, int]]
    ) -> tuple[Stage, ...]:
        found = []
        while used in came:
            before, kind = came[used]
            device = self._kinds[kind][before[kind]]
            found.append(self._stage(device, reached[before], reached[used]))
            used = before
        return tuple(reversed(found))

    def _stage(self, device: Device, start: int, end: int) -> Stage:
        sums, last = self._sums[self._kind(device)], end == len(self._chain)
        carried = 0.0 if last else float(self._chain.carried[end - 1])
        sends = 0.0 if last else self._sends[end - 1]
        memory = self._chain.memory(start, end)
        return Stage(device, start, end, sums[end] - sums[start], sends, carried, memory)
