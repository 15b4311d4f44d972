"""A proof that no pipeline keeps within a time, found without the planner and by another way.

The planner follows the best run of each state. Here all of them are followed, best or not: of each
number of devices of each class, and each unit at work, the set of all places at which its stage can
start. Nothing is left out on the way, so that a time that no set reaches the end within is one that
no pipeline keeps, whatever the planner does.
"""

from __future__ import annotations

import math

import numpy as np

from burnish.optimizer.partition.run_costs import Numbers, RunCosts, Unit

MOST = 6_000
"""States up to which a proof is tried."""

NEAR = 1e-3
"""How near a time that is proven comes to what is reached, relative to it."""

Key = tuple[tuple[int, ...], Unit]


def certified(costs: RunCosts, low: float, high: float) -> float | None:
    """Seconds below which no pipeline has its slowest stage.

    Args:
        costs: of runs of the chain.
        low: below which none has it for other reasons.
        high: the time that a plan reaches.

    Returns:
        The proven time, between both; None where there are too many states to try.
    """
    counts = [len(devices) for devices in costs.classes.devices]
    if math.prod(count + 1 for count in counts) * len(costs.units) > MOST:
        return None
    for slack in (NEAR / 4, 6 * NEAR):  # the planner gives up half a percent to send less
        if high * (1.0 - slack) > low and not reachable(costs, high * (1.0 - slack)):
            return high * (1.0 - slack)
    while high - low > NEAR * high:
        middle = (low + high) / 2.0
        if reachable(costs, middle):
            high = middle
        else:
            low = middle
    return low


def reachable(costs: RunCosts, limit: float) -> bool:
    """Whether some pipeline has no stage or transfer that takes longer."""
    counts = tuple(len(devices) for devices in costs.classes.devices)
    size = costs.size
    ends = {unit: _ends(costs, unit, limit) for unit in costs.units}
    sets: list[dict[Key, Numbers]] = [{} for _ in range(sum(counts) + 1)]
    for unit in costs.units:
        first = np.zeros(size + 1, bool)
        first[0] = True
        sets[unit.size][_more((0,) * len(counts), unit), unit] = first
    for total in range(1, len(sets)):
        for (used, unit), starts in sets[total].items():
            reached = _reached(starts, ends[unit])
            if reached[size]:
                return True
            for other in costs.units:
                more = _more(used, other)
                if more[other.index] > counts[other.index]:
                    continue
                sends = costs.sends(costs.link(unit, other))
                passed = reached.copy()
                passed[1:] &= sends <= limit
                if passed.any():
                    key = more, other
                    place = sets[sum(more)]
                    place[key] = place[key] | passed if key in place else passed
    return False


def _more(used: tuple[int, ...], unit: Unit) -> tuple[int, ...]:
    return tuple(count + unit.size * (i == unit.index) for i, count in enumerate(used))


def _reached(starts: Numbers, ends: Numbers) -> Numbers:
    """Places where a stage can end that starts at one of some places."""
    places = np.flatnonzero(starts & (ends > np.arange(len(ends))))
    changes = np.zeros(len(ends) + 1, int)
    np.add.at(changes, places + 1, 1)
    np.add.at(changes, ends[places] + 1, -1)
    found: Numbers = np.cumsum(changes[:-1]) > 0
    return found


def _ends(costs: RunCosts, unit: Unit, limit: float) -> Numbers:
    """Of each place, the last one to which a stage may go from there in time and memory."""
    each, room = costs.each(unit).tolist(), costs.device(unit).memory
    found, end, took = np.zeros(costs.size + 1, int), 0, 0.0
    for start in range(costs.size):
        while end < costs.size and took + each[end] <= limit * (1.0 + 1e-9):
            took += each[end]
            end += 1
        found[start] = end
        took = took - each[start] if end > start else 0.0
        end = max(end, start + 1)
    found[costs.size] = costs.size
    return _held(costs, unit, room, found)


def _held(costs: RunCosts, unit: Unit, room: float, ends: Numbers) -> Numbers:
    """The same ends, as far as memory holds the runs."""
    if costs.memory(unit, 0, costs.size) <= room:
        return ends
    last = 0
    for start in range(costs.size):
        last = max(last, start)
        while last < costs.size and costs.memory(unit, start, last + 1) <= room:
            last += 1
        ends[start] = min(int(ends[start]), last)
    return ends
