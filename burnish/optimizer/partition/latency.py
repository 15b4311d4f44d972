"""The pipeline through which one run by itself takes the least time.

A state is as in `search`; of each place it knows the least time until its last unit can start
there. What that unit takes depends on the two ends of its run, so that all starts of a run to an
end are weighed at once, as the least of a window. States that cannot become better than what is
known are left out: what is left takes at least what its operators take where each is fastest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from burnish.optimizer.partition.classes import Used
from burnish.optimizer.partition.frugal import window_minimum
from burnish.optimizer.partition.run_costs import Numbers, RunCosts, Unit
from burnish.optimizer.partition.search import SLIP, Run

WIDTH = 60
"""States that are followed of each number of devices."""

State = tuple[Used, Unit]


@dataclass
class _Table:
    """What is known of a state.

    Attributes:
        least: seconds until its unit can start at each place, [operators + 1].
        before: the state before it, by place, as a number into `parents`; -1 where there is none.
        starts: where the stage before it starts, by place.
    """

    least: Numbers
    before: Numbers
    starts: Numbers
    parents: list[State] = field(default_factory=list)


class Quickest:
    """Finds the stages of the least latency.

    Attributes:
        exact: whether nothing was left out for the number of states.
    """

    def __init__(self, costs: RunCosts) -> None:
        self.exact = True
        self._costs, self._classes = costs, costs.classes
        self._counts = [len(devices) for devices in costs.classes.devices]
        least = np.min([costs.each(unit) for unit in costs.units], axis=0)
        done = np.concatenate([[0.0], np.cumsum(least)])
        self._rest = done[-1] - done
        self._tables: dict[State, _Table] = {}
        self._first = {
            unit: np.searchsorted(costs.rooms(unit), np.arange(costs.size + 1))
            for unit in costs.units
        }

    def runs(self) -> list[Run] | None:
        """The stages; None where the model does not fit."""
        size, best, last = self._costs.size, np.inf, None
        for unit in self._next((0,) * len(self._counts), -1):
            state = self._with((0,) * len(self._counts), unit), unit
            self._table(state).least[0] = 0.0
            if (whole := float(self._ends(state)[0][size])) < best:
                best, last = whole, (state, 0)
        for total in range(1, sum(self._counts) + 1):
            for state in self._kept(total, best):
                least, where = self._ends(state)
                if least[size] < best * (1.0 - SLIP):
                    best, last = float(least[size]), (state, int(where[size]))
                self._follow(state, least, where)
        return None if last is None else self._route(*last)

    def _ends(self, state: State) -> tuple[Numbers, Numbers]:
        """Seconds until the last unit is done with each place, and where it started for that."""
        times = self._costs.times(state[1])
        least, where = window_minimum(self._tables[state].least - times, self._first[state[1]])
        return least + times, where

    def _follow(self, state: State, least: Numbers, where: Numbers) -> None:
        used, unit = state
        for following in self._next(used, unit.index):
            sends = self._costs.sends(self._costs.link(unit, following))
            arrives = np.concatenate([[np.inf], least[1:-1] + sends[:-1], [np.inf]])
            table = self._table((self._with(used, following), following))
            better = arrives < table.least
            if better.any():
                table.least[better] = arrives[better]
                table.before[better] = len(table.parents)
                table.starts[better] = where[better]
                table.parents.append(state)

    def _next(self, used: Used, current: int) -> list[Unit]:
        """Units that are free; of nodes in the same state, those of one."""
        choices = set(self._classes.choices(used, current))
        return [
            unit
            for unit in self._costs.units
            if unit.index in choices and used[unit.index] + unit.size <= self._counts[unit.index]
        ]

    def _kept(self, total: int, best: float) -> list[State]:
        """States with so many devices that may lead to something better than what is known."""
        found = []
        for state, table in self._tables.items():
            if sum(state[0]) != total:
                continue
            whole = table.least + self._rest
            table.least[whole >= best * (1.0 - SLIP)] = np.inf
            if np.isfinite(least := float(np.min(table.least + self._rest))):
                found.append((least, state))
        found.sort(key=lambda item: item[0])
        self.exact &= len(found) <= WIDTH
        return [state for _, state in found[:WIDTH]]

    def _table(self, state: State) -> _Table:
        if state not in self._tables:
            size = self._costs.size + 1
            none = np.full(size, -1)
            self._tables[state] = _Table(np.full(size, np.inf), none, none.copy())
        return self._tables[state]

    @staticmethod
    def _with(used: Used, unit: Unit) -> Used:
        return tuple(count + unit.size * (i == unit.index) for i, count in enumerate(used))

    def _route(self, state: State, start: int) -> list[Run]:
        runs = [Run(state[1], start, self._costs.size)]
        while start > 0:
            table = self._tables[state]
            number, begun = int(table.before[start]), int(table.starts[start])
            state = table.parents[number]
            runs.append(Run(state[1], begun, start))
            start = begun
        return runs[::-1]
