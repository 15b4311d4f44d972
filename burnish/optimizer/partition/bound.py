"""What no plan can beat, found without the planner."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from burnish.optimizer.partition.cluster import Link
from burnish.optimizer.partition.relaxation import memory_latency, spread_bound
from burnish.optimizer.partition.run_costs import RunCosts

SLIP = 1e-3
"""What a reason may be above the one before it, to be told in its place."""


@dataclass(frozen=True)
class Bound:
    """Seconds that the slowest stage or transfer of any plan takes at least, by reasons.

    Attributes:
        work: all work, spread over the devices as if it were a liquid.
        memory: the same where each device has work for no more than it can hold.
        operator: the longest run of operators that nothing can part, where it is fastest.
        transfer: the cheapest transfers that are needed for so much speed or memory.
    """

    work: float
    memory: float
    operator: float
    transfer: float

    @property
    def seconds(self) -> float:
        """The largest of them."""
        return max(self.work, self.memory, self.operator, self.transfer)

    @property
    def reason(self) -> str:
        """Which of them it is."""
        names = ("work", "operator", "transfer", "memory")
        near = [name for name in names if getattr(self, name) * (1.0 + SLIP) >= self.seconds]
        return near[0]


def lower_bound(costs: RunCosts, *, relaxed: bool = True) -> Bound:
    """What no plan can beat.

    Args:
        costs: of runs on the devices.
        relaxed: look at work and memory more closely where devices differ; see `relaxation`.

    A plan has some number k of stages on units, so that the least over all k of the largest of
    these holds:

    1. All work, spread over k units as if it were a liquid. Let v(d) be the inverse of the time
       that device d would take alone, and V(k) the sum of the largest. Any devices with a slowest
       stage T satisfy T V(k) >= sum_d v(d) T >= sum_d v(d) t(d) >= sum_a min_d v(d) t(a, d)
       (weak duality of linear programs); where all operators run at the same ratio of speeds this
       is total work over the sum of rates. A group of t devices has no less than 1 / t of an
       operator for each.
    2. The k - 1 cheapest transfers, of which the last is the slowest; and devices are only used
       together where the cheapest transfer over the links that connect them takes no longer.
    3. Whatever k is: with the transfers that T allows, no operators can be parted that stand
       between two of those places, and together they take no more than T on the unit that is
       fastest for them. (An operator by itself is the shortest such run.)

    Numbers of stages whose devices cannot hold the model are left out.
    """
    speeds, spread = liquid(costs)
    if not speeds:
        return Bound(0.0, 0.0, 0.0, 0.0)
    fastest = _unparted(costs)
    found = [
        Bound(spread / power, 0.0, fastest, transfer) for power, transfer in _choices(costs, speeds)
    ]
    if not found:
        return Bound(0.0, 0.0, 0.0, 0.0)
    best = min(found, key=lambda item: item.seconds)
    if not relaxed or len({device.kind for device in costs.cluster.devices}) == 1:
        return best
    work = max(best.work, spread_bound(costs, memory=False))
    return replace(best, work=work, memory=spread_bound(costs, memory=True))


def latency_bound(costs: RunCosts) -> float:
    """Seconds that one run by itself takes at least.

    Each operator takes what it takes on the unit that is fastest for it, as far as memory allows,
    and so many units as it takes to hold the model hand on at least the cheapest transfer.
    """
    whole, largest = costs.chain.memory(0, costs.size), max(unit.size for unit in costs.units)
    roomy = sorted((device.memory for device in costs.cluster.devices), reverse=True)
    held = np.cumsum(roomy)[largest - 1 :: largest]
    count = int(np.searchsorted(held, whole)) + 1
    links = {link for row in costs.classes.links for link in row}
    sends = sorted(np.min([costs.sends(link)[:-1] for link in links], axis=0).tolist())
    needed = sends[: min(count, len(roomy)) - 1]
    return memory_latency(costs) + float(sum(needed))


@dataclass(frozen=True)
class _Together:
    """Classes whose devices can be used together.

    Attributes:
        transfer: seconds of the cheapest transfer over the slowest link that connects them; None
            for a unit by itself.
        quickest: a link no slower than any between them.
    """

    classes: tuple[int, ...]
    transfer: float | None
    quickest: Link


def liquid(costs: RunCosts) -> tuple[dict[int, float], float]:
    """What a unit of each class does in a second, and all that is to do; see `lower_bound`."""
    singles = [unit for unit in costs.units if unit.size == base_size(costs)]
    alone = np.array([costs.times(unit)[-1] for unit in singles])
    if not alone.all():
        return {}, 0.0
    pairs = list(zip(singles, alone.tolist(), strict=True))
    spread = np.min([costs.each(unit) / seconds for unit, seconds in pairs], axis=0)
    return {unit.index: 1.0 / seconds for unit, seconds in pairs}, float(spread.sum())


def base_size(costs: RunCosts) -> int:
    """The size of the units that all others are made of: that of all units, or single devices."""
    sizes = {unit.size for unit in costs.units}
    return sizes.pop() if len(sizes) == 1 else 1


def _choices(costs: RunCosts, speeds: Mapping[int, float]) -> Iterator[tuple[float, float]]:
    """The sum of speeds and the slowest transfer of each number of units, at the best."""
    whole, base = costs.chain.memory(0, costs.size), base_size(costs)
    largest = max(unit.size for unit in costs.units) // base
    for group in _connected(costs):
        members = [
            (speeds[index], base * device.memory)
            for index in group.classes
            if index in speeds
            for device in costs.classes.devices[index][base - 1 :: base]
        ]
        if not members:  # too few devices for a group
            continue
        fast, roomy = (sorted(column, reverse=True) for column in zip(*members, strict=True))
        sends = [0.0, *np.sort(costs.sends(group.quickest)[:-1]).tolist()]
        counts = range(2, min(len(members), len(sends)) + 1)
        for count in (1,) if group.transfer is None else counts:
            if sum(roomy[: count * largest]) >= whole:
                yield sum(fast[: count * largest]), max(sends[count - 1], group.transfer or 0.0)


def _connected(costs: RunCosts) -> Iterator[_Together]:
    """Single units, and what more and more is connected as slower links are allowed."""
    links, devices = costs.classes.links, costs.classes.devices
    every = range(len(links))
    yield from (_Together((index,), None, Link()) for index in every)
    cheapest = {
        link: float(costs.sends(link)[:-1].min(initial=math.inf)) for row in links for link in row
    }
    seen: set[tuple[int, ...]] = set()
    for limit in sorted(set(cheapest.values()) - {math.inf}):
        near = [[j for j in every if cheapest[links[i][j]] <= limit] for i in every]
        for group in _components(near):
            single = len(group) == 1
            useless = single and (len(devices[group[0]]) == 1 or group[0] not in near[group[0]])
            if group not in seen and not useless:
                seen.add(group)
                inner = [links[i][j] for i in group for j in group]
                bandwidth = max(link.bandwidth for link in inner)
                quickest = Link(bandwidth, min(link.latency for link in inner))
                yield _Together(group, limit, quickest)


def _components(near: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """What is connected, of a graph by its neighbours."""
    found: list[tuple[int, ...]] = []
    for first in range(len(near)):
        if any(first in group for group in found):
            continue
        group, stack = {first}, [first]
        while stack:
            new = set(near[stack.pop()]) - group
            group |= new
            stack += new
        found.append(tuple(sorted(group)))
    return found


def _unparted(costs: RunCosts) -> float:
    """The least T that is as long as each run of operators between transfers of at most T."""
    links = {link for row in costs.classes.links for link in row}
    sends = np.min([costs.sends(link)[:-1] for link in links], axis=0)
    times = np.array([costs.times(unit) for unit in costs.units])

    def longest(limit: float) -> float:
        places = np.concatenate([[0], np.flatnonzero(sends <= limit) + 1, [costs.size]])
        runs = times[:, places[1:]] - times[:, places[:-1]]
        return float(runs.min(axis=0).max())

    # The more is allowed, the shorter the runs: where the two meet is the least of the larger.
    limits = [0.0, *sorted(set(sends.tolist()))]
    index = bisect.bisect_left(limits, True, key=lambda limit: limit >= longest(limit))
    around = limits[max(index - 1, 0) : index + 1]
    return float(min(max(limit, longest(limit)) for limit in around))
