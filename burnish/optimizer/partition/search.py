"""Whether some pipeline keeps within a time, and its stages.

With a limit T for stages and transfers, each unit takes as much of the chain as it can in T. What
a state of the search has to know is how many devices of each class have been used and which unit is
at work: among runs that end there, the one whose last stage starts furthest on is as good as any,
since what starts later needs no more time, memory or room, and what is sent next depends on no more
than the unit and its end. So the search is exact, also with a link for each pair of devices, as
long as no more states come up than `WIDTH` for a number of devices. Beyond that the furthest are
kept.

States are left out whose unused devices could not do the rest of the work in T if it were a liquid;
see `bound` for why that loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from burnish.optimizer.partition.classes import Used
from burnish.optimizer.partition.cluster import Link
from burnish.optimizer.partition.run_costs import Numbers, RunCosts, Unit

WIDTH = 300
"""States that are followed of each number of devices."""

SLIP = 1e-9
"""What sums may differ by where a state is left out, relative to them."""

State = tuple[Used, Unit]


@dataclass(frozen=True)
class Run:
    """Atoms start to end on a unit, whose class is that of the cluster."""

    unit: Unit
    start: int
    end: int


_Move = tuple[Link, int, State, tuple[int, ...] | None]
"""A link, the class at its end, the state to which it leads, and how classes are renamed then."""


@dataclass
class _States:
    """States by how many devices they use, and from where each was reached.

    Attributes:
        starts: where the last stage of a state starts, as far on as can be.
        came: the state before, the class chosen there, and how classes were renamed then.
    """

    starts: dict[State, int] = field(default_factory=dict)
    came: dict[State, tuple[State, int, tuple[int, ...] | None]] = field(default_factory=dict)
    waiting: dict[int, list[State]] = field(default_factory=dict)

    def add(self, state: State, start: int) -> bool:
        """Take a state up unless it is known to start as far on."""
        known = self.starts.get(state, -1)
        if known < 0:
            self.waiting.setdefault(sum(state[0]), []).append(state)
        if start > known:
            self.starts[state] = start
        return start > known


class Search:
    """Finds stages within a time.

    Attributes:
        exact: whether no time was given up so far with states left out for their number.
    """

    def __init__(self, costs: RunCosts) -> None:
        self.exact, self._cut = True, False
        self._costs, self._classes = costs, costs.classes
        self._counts = np.array([len(devices) for devices in costs.classes.devices])
        links = {link for row in costs.classes.links for link in row}
        self._sends = {link: costs.sends(link) for link in links}
        self._sizes = [
            [unit.size for unit in costs.units if unit.index == index]
            for index in range(len(costs.classes))
        ]
        self._moves: dict[State, list[_Move]] = {}
        self._speeds, self._rest = _liquid(costs)

    def within(self, limit: float) -> list[Run] | None:
        """Runs of which none takes longer, nor what is sent between; None where none was found."""
        costs, states, self._cut = self._costs, _States(), False
        reach = {unit: costs.furthest(unit, limit).tolist() for unit in costs.units}
        places = {link: _places(sends, limit) for link, sends in self._sends.items()}
        for unit in costs.units:
            used = tuple(unit.size * (i == unit.index) for i in range(len(self._counts)))
            if self._classes.canonical(used, unit.index)[2] is None:
                states.add((used, unit), 0)
        for total in range(1, int(self._counts.sum()) + 1):
            for state in self._kept(states, states.waiting.pop(total, []), limit):
                end = reach[state[1]][states.starts[state]]
                if end == costs.size:
                    return self._route(state, states)
                self._follow(state, end, places, states)
        self.exact &= not self._cut
        return None

    def _follow(
        self, state: State, end: int, places: dict[Link, list[int]], states: _States
    ) -> None:
        """Add the states of which each has one unit more, from as far on as the state gets."""
        begun = states.starts[state]
        for link, index, new, names in self._moves_from(state):
            start = places[link][end]
            if start > begun and states.add(new, start):
                states.came[new] = state, index, names

    def _moves_from(self, state: State) -> list[_Move]:
        if state not in self._moves:
            self._moves[state] = list(self._found_moves(*state))
        return self._moves[state]

    def _found_moves(self, used: Used, unit: Unit) -> Iterator[_Move]:
        classes = self._classes
        for index in classes.choices(used, unit.index):
            link = classes.links[unit.index][index]
            for size in self._sizes[index]:
                if used[index] + size <= self._counts[index]:
                    more = (*used[:index], used[index] + size, *used[index + 1 :])
                    renamed, current, names = classes.canonical(more, index)
                    yield link, index, (renamed, Unit(current, size)), names

    def _kept(self, states: _States, waiting: list[State], limit: float) -> list[State]:
        """Those that may still be completed; the furthest where they are many."""
        if not waiting:
            return []
        starts = np.array([states.starts[state] for state in waiting])
        free = self._counts - np.array([state[0] for state in waiting])
        power = free @ self._speeds
        power += [self._speeds[unit.index] * unit.size for _, unit in waiting]
        able = np.flatnonzero(self._rest[starts] <= power * limit * (1.0 + SLIP))
        if len(able) > WIDTH:
            self._cut = True
            able = able[np.argsort(-starts[able], kind="stable")[:WIDTH]]
        return [waiting[index] for index in able]

    def _route(self, state: State, states: _States) -> list[Run]:
        """The runs that led to a state, by the classes of the cluster."""
        path = [state]
        while path[-1] in states.came:
            path.append(states.came[path[-1]][0])
        path.reverse()
        ends = [*(states.starts[item] for item in path[1:]), self._costs.size]
        homes = list(range(len(self._counts)))
        runs = [Run(path[0][1], 0, ends[0])]
        for item, end in zip(path[1:], ends[1:], strict=True):
            _, chosen, names = states.came[item]
            runs.append(Run(Unit(homes[chosen], item[1].size), states.starts[item], end))
            if names is not None:
                moved = list(homes)
                for old, new in enumerate(names):
                    moved[new] = homes[old]
                homes = moved
        return runs


def _places(sends: Numbers, limit: float) -> list[int]:
    """The last place at or before each one at which a stage may end: [operators + 1]."""
    size = len(sends)
    places = np.zeros(size + 1, int)
    ends = np.arange(1, size)
    places[1:size] = np.where(sends[:-1] <= limit, ends, 0)
    found: list[int] = np.maximum.accumulate(places).tolist()
    return found


def _liquid(costs: RunCosts) -> tuple[Numbers, Numbers]:
    """What a device of each class does, and what is left to do from each place: in one unit."""
    singles = [Unit(index) for index in range(len(costs.classes))]
    alone = np.array([costs.times(unit)[-1] for unit in singles])
    if not alone.all():
        return np.ones(len(singles)), np.zeros(costs.size + 1)
    least = np.min([costs.each(unit) / alone[unit.index] for unit in singles], axis=0)
    done = np.concatenate([[0.0], np.cumsum(least)])
    return 1.0 / alone, done[-1] - done
