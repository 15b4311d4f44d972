"""Of plans on the same units in the same order, within a time, the one that sends the least."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np

from burnish.optimizer.partition.run_costs import Numbers, RunCosts
from burnish.optimizer.partition.search import Run


def frugal(costs: RunCosts, runs: Sequence[Run], limit: float) -> list[Run]:
    """The runs' units with the ends that send the least in all, none taking longer than a limit."""
    size = costs.size
    cost = np.full(size + 1, np.inf)
    cost[0] = 0.0
    starts = []
    for index, run in enumerate(runs):
        least, where = window_minimum(cost, _earliest(costs.furthest(run.unit, limit)))
        starts.append(where)
        cost = least
        if index + 1 < len(runs):
            sends = costs.sends(costs.link(run.unit, runs[index + 1].unit))
            cost[1:] += np.where(sends <= limit, costs.carried, np.inf)
            cost[size] = np.inf
    ends = [size]
    for where in reversed(starts):
        ends.append(int(where[ends[-1]]))
    ends.reverse()
    pairs = zip(runs, itertools.pairwise(ends), strict=True)
    return [Run(run.unit, *places) for run, places in pairs]


def _earliest(furthest: Numbers) -> Numbers:
    """Of each place, the first one from which a unit gets there."""
    found: Numbers = np.searchsorted(furthest, np.arange(len(furthest)))
    return found


def window_minimum(values: Numbers, first: Numbers) -> tuple[Numbers, Numbers]:
    """Of each place, the least value from `first` (which never falls) up to the place before it.

    Returns:
        The values, infinite where there is none, and where they are; of several, the first.
    """
    least, where = np.full(len(values), np.inf), np.zeros(len(values), int)
    given, begins = values.tolist(), first.tolist()
    waiting: deque[int] = deque()
    for place in range(1, len(given)):
        while waiting and given[waiting[-1]] > given[place - 1]:
            waiting.pop()
        waiting.append(place - 1)
        while waiting and waiting[0] < begins[place]:
            waiting.popleft()
        if waiting:
            where[place], least[place] = waiting[0], given[waiting[0]]
    return least, where
