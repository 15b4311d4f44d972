"""Replicas, pipelines and groups together: how many of what, for throughput or for latency.

Each replica is a pipeline of its own, on devices of its own, whose stages may be groups. What some
devices reach as one pipeline is found by the planner; how the devices are best divided into such
sets is a knapsack over the numbers of devices of each kind (Kellerer et al. 2004), filled with what
sets were found to reach. Sets are told apart by those numbers; which devices they are is decided
last, node by node, and what is reported is what the planner says of those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from burnish.optimizer.errors import ResourceLimit, UsageError
from burnish.optimizer.partition.bound import base_size, latency_bound, liquid, lower_bound
from burnish.optimizer.partition.cluster import Cluster, Device
from burnish.optimizer.partition.placement import Counts, Kinds, packed
from burnish.optimizer.partition.planner import plan_on, quickest_on, too_large
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.run_costs import RunCosts

THROUGHPUT, LATENCY = "throughput", "latency"

ENOUGH = 0.995
"""The share of what devices do as a liquid from which on no other way to use them is looked for."""

MOST = 3000
"""Sets of devices that are told apart, times replicas that are asked for."""

TINY = 1e-300
"""Seconds that stand for none."""

TRIED = 80
"""Sets of devices of which a pipeline is looked for."""


@dataclass(frozen=True)
class Combination:
    """Replicas on devices of their own.

    Attributes:
        objective: what it was chosen for.
        bound: feeds a second that no plan exceeds, or seconds below which none has its latency.
    """

    replicas: tuple[Plan, ...]
    objective: str
    bound: float

    @property
    def throughput(self) -> float:
        """Feeds a second over all replicas, once they are full."""
        return sum(1.0 / item.bottleneck for item in self.replicas)

    @property
    def latency(self) -> float:
        """Seconds of one run by itself, on the slowest replica."""
        return max(item.latency for item in self.replicas)

    @property
    def gap(self) -> float:
        """How much better than this the bound is, relative to this."""
        if self.objective == LATENCY:
            return self.latency / self.bound - 1.0 if self.bound else 0.0
        return self.bound / self.throughput - 1.0


def combine(costs: RunCosts, objective: str, replicas: int | None = None) -> Combination:
    """The best combination that is found.

    Args:
        costs: of runs on all devices; what units there are says which groups may be used.
        objective: `THROUGHPUT` or `LATENCY`.
        replicas: how many; None for as many as are best (for latency, one).

    Raises:
        ResourceLimit: so many replicas do not fit into the memory of the devices.
        UsageError: there are not as many devices.
    """
    if replicas is not None and replicas > len(costs.cluster.devices):
        raise UsageError(
            f"{replicas} replicas need as many devices, and there are {len(costs.cluster.devices)}"
        )
    if objective == LATENCY:
        return _soonest(costs, replicas or 1)
    found = [plan_on(costs)] if replicas == 1 else _fastest(costs, replicas)
    return Combination(tuple(found), objective, rate_bound(costs, replicas))


def rate_bound(costs: RunCosts, replicas: int | None) -> float:
    """Feeds a second that no replicas of pipelines exceed together.

    All work over the sum of rates (see `bound`); and each replica holds the model, of which there
    are no more than memory allows, and gives no more than one feed in the time of its longest run
    of operators that nothing can part.
    """
    if replicas == 1:
        return 1.0 / max(lower_bound(costs).seconds, TINY)
    power = _liquid(costs)
    whole = costs.chain.memory(0, costs.size)
    room = sum(device.memory for device in costs.cluster.devices)
    count = min(room / whole if whole else len(costs.cluster.devices), len(costs.cluster.devices))
    longest = lower_bound(costs).operator
    most = min(int(count), replicas or int(count))
    return min(power, most / longest) if longest else power


def _soonest(costs: RunCosts, count: int) -> Combination:
    """So many replicas on like shares of the devices, each the quickest there is."""
    parts = Kinds(costs.cluster).dealt(count)
    found = tuple(quickest_on(costs.on(_of(costs.cluster, part))) for part in parts)
    return Combination(found, LATENCY, latency_bound(costs))


def _fastest(costs: RunCosts, count: int | None) -> list[Plan]:
    kinds = Kinds(costs.cluster)
    if kinds.states * (count or 1) > MOST:
        return _by_dealing(costs, kinds, count)
    chosen = packed(kinds.whole, _rates(costs, kinds, count), count)
    if not chosen:
        raise too_large(costs.chain, costs.cluster)
    found = _planned(costs, kinds.placed(chosen))
    # Replicas that are alike have the same files, and none is slower than the others.
    with contextlib.suppress(ResourceLimit):
        alike = _planned(costs, kinds.dealt(len(chosen)))
        if _rate(alike) >= ENOUGH * _rate(found):
            return alike
    return found


def _planned(costs: RunCosts, parts: Sequence[Sequence[Device]]) -> list[Plan]:
    return [plan_on(costs.on(_of(costs.cluster, part))) for part in parts]


def _by_dealing(costs: RunCosts, kinds: Kinds, count: int | None) -> list[Plan]:
    """Like shares of the devices for each of some numbers of replicas, the best of them."""
    total = len(costs.cluster.devices)
    counts = [count] if count else [n for n in range(1, total + 1) if n & (n - 1) == 0]
    best: list[Plan] = []
    for number in counts:
        try:
            found = _planned(costs, kinds.dealt(number))
        except ResourceLimit:
            continue
        if _rate(found) > _rate(best):
            best = found
    if not best:
        raise too_large(costs.chain, costs.cluster)
    return best


def _rate(plans: Sequence[Plan]) -> float:
    return sum(1.0 / item.bottleneck for item in plans)


def _rates(costs: RunCosts, kinds: Kinds, count: int | None) -> dict[Counts, float]:
    """Feeds a second of sets of devices as one pipeline, where that may be of use."""
    sets, found = kinds.sets(), dict[Counts, float]()
    if count is not None:
        like = sum(kinds.whole) / count
        sets.sort(key=lambda item: (item != kinds.whole, abs(sum(item) - like)))
    for counts in sets[:TRIED] + ([kinds.whole] if len(sets) > TRIED else []):
        inner = costs.on(_of(costs.cluster, kinds.first(counts)))
        bound = lower_bound(inner, relaxed=False).seconds if inner.units else 0.0
        if not bound or (count is None and _filled(counts, found) >= ENOUGH / bound):
            continue
        with contextlib.suppress(ResourceLimit):
            found[counts] = 1.0 / plan_on(inner, relaxed=False).bottleneck
    return found


def _filled(counts: Counts, rates: Mapping[Counts, float]) -> float:
    """What sets reach together that fill another one, those that reach the most by device first."""
    total = 0.0
    for item in sorted(rates, key=lambda item: -rates[item] / sum(item)):
        times = min(have // need for have, need in zip(counts, item, strict=True) if need)
        counts = tuple(have - times * need for have, need in zip(counts, item, strict=True))
        total += times * rates[item]
    return total


def _liquid(costs: RunCosts) -> float:
    """Feeds a second that the devices give at most, as if all work were a liquid."""
    speeds, spread = liquid(costs)
    base, devices = base_size(costs), costs.classes.devices
    power = sum(speed * (len(devices[index]) // base) for index, speed in speeds.items())
    return power / max(spread, TINY)


def _of(cluster: Cluster, devices: Sequence[Device]) -> Cluster:
    return replace(cluster, devices=tuple(devices))
