"""What a plan does on devices that are not here: throughput, latency, and idle time.

A discrete-event simulation. A line is what one replica does to a feed, step by step: stages, each
on a device, and transfers between them, each over a link. A step takes one feed at a time and has a
few places before it; a stage that has finished keeps its feed until there is a place behind it
(blocking after service), and goes on while the one before is sent. Devices and links that several
steps use serve them in the order in which they ask. Whichever line is free takes the next feed.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from burnish.optimizer.errors import UsageError

PLACES = 2
"""Feeds that wait before a step; that of `runtimes.pipeline`."""

WARM_UP = 0.1
"""Share of the feeds that leaves before anything is counted: the pipeline fills."""


@dataclass(frozen=True)
class Step:
    """What is done to a feed.

    Attributes:
        seconds: that it takes.
        uses: the name of the device or link.
        sends: whether it is a transfer, which begins when there is a place to send to.
    """

    seconds: float
    uses: str
    sends: bool = False


Line = Sequence[Step]
"""Steps in order."""


@dataclass(frozen=True)
class Forecast:
    """What came of it.

    Attributes:
        throughput: feeds a second, once it is full.
        latency, latency_99: median and 99th percentile of the seconds from coming in to leaving.
        busy: share of the time in which each device and link works, by name, once it is full.
    """

    throughput: float
    latency: float
    latency_99: float
    busy: dict[str, float]

    @property
    def binds(self) -> str:
        """The device or link that works most."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(
    lines: Sequence[Line],
    feeds: int,
    *,
    rate: float | None = None,
    scatter: float = 0.0,
    flight: int | None = None,
    seed: int = 0,
) -> Forecast:
    """Send so many feeds through lines.

    Args:
        lines: of all replicas.
        feeds: at least two.
        rate: feeds that come in a second, at random times (Poisson); None for as many as there is
            room for.
        scatter: standard deviation of the time of a step over its mean (log-normal).
        flight: feeds in a line at most; None for what there is room for.
        seed: of all that is drawn.

    Raises:
        UsageError: there is nothing to send, or nowhere to send it.
    """
    if feeds < 2 or not lines or not all(lines):
        raise UsageError("a simulation takes lines with steps, and two feeds at least")
    random = np.random.default_rng(seed)
    comes = np.zeros(feeds)
    if rate is not None:
        comes = np.cumsum(random.exponential(1.0 / rate, feeds))
    run = _Run(lines, comes, scatter, flight or math.inf, random)
    run.all()
    begun = run.begun if rate is None else comes
    counted = np.argsort(run.left, kind="stable")[max(int(feeds * WARM_UP), 1) :]
    waits, taken = (run.left - begun)[counted], run.taken[counted]
    rates = [_rate(run.left[counted[taken == index]]) for index in range(len(lines))]
    busy = dict.fromkeys(run.resources, 0.0)
    for line, each in zip(lines, rates, strict=True):
        for step in line:
            busy[step.uses] += each * step.seconds
    return Forecast(
        sum(rates), float(np.median(waits)), float(np.quantile(waits, 0.99)),
        {name: min(share, 1.0) for name, share in busy.items()},
    )  # fmt: skip


def _rate(left: np.ndarray) -> float:
    """Feeds a second of one line, which is not held up by when others began or end."""
    return (len(left) - 1) / max(float(left[-1] - left[0]), 1e-12) if len(left) > 1 else 0.0


@dataclass
class _Resource:
    """A device or link: whether it works, and who asks for it."""

    busy: bool = False
    asks: deque[_Station] = field(default_factory=deque)


@dataclass(eq=False)
class _Station:
    """A step of one line.

    Attributes:
        waits: feeds before it.
        coming: places before it that are kept for feeds on their way.
        done: a feed that has no place behind it yet.
    """

    step: Step
    resource: _Resource
    line: int
    before: _Station | None = None
    behind: _Station | None = None
    waits: deque[int] = field(default_factory=deque)
    coming: int = 0
    working: bool = False
    asked: bool = False
    done: int | None = None

    @property
    def has_room(self) -> bool:
        return len(self.waits) + self.coming < PLACES


class _Run:
    """The events of one simulation.

    Attributes:
        begun, left: when each feed began, and when it was done.
        taken: the line of each.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        comes: np.ndarray,
        scatter: float,
        flight: float,
        random: np.random.Generator,
    ) -> None:
        names = dict.fromkeys(step.uses for line in lines for step in line)
        self.resources = {name: _Resource() for name in names}
        self._firsts = [self._stations(index, line) for index, line in enumerate(lines)]
        self._comes, self._flight = comes, flight
        self._width = math.sqrt(math.log1p(scatter**2))
        self._random = random
        self.begun, self.left = np.zeros(len(comes)), np.zeros(len(comes))
        self.taken = np.zeros(len(comes), int)
        self._inside = [0] * len(lines)
        self._next, self._now = 0, 0.0
        self._events: list[tuple[float, int, _Station | None, int]] = []
        self._numbers = itertools.count()
        self._free = OrderedDict.fromkeys(range(len(lines)))

    def _stations(self, index: int, line: Line) -> _Station:
        stations = [_Station(step, self.resources[step.uses], index) for step in line]
        for one, two in itertools.pairwise(stations):
            one.behind, two.before = two, one
        return stations[0]

    def all(self) -> None:
        """Let every feed come, and go."""
        for when in self._comes:
            self._later(float(when), None, 0)
        while self._events:
            self._now, _, station, feed = heapq.heappop(self._events)
            if station is not None:
                self._finished(station, feed)
            self._admit()

    def _later(self, when: float, station: _Station | None, feed: int) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), station, feed))

    def _admit(self) -> None:
        """Whichever lines are free take what has come, those first that have waited longest."""
        while self._next < len(self._comes) and self._comes[self._next] <= self._now:
            line = self._take()
            if line is None:
                return
            feed, self._next = self._next, self._next + 1
            self._inside[line] += 1
            self.begun[feed], self.taken[feed] = self._now, line
            self._firsts[line].waits.append(feed)
            self._try(self._firsts[line])
            self._offer(line)

    def _take(self) -> int | None:
        """A line that can begin; those that cannot are offered again when something changes."""
        while self._free:
            line, _ = self._free.popitem(last=False)
            first = self._firsts[line]
            idle = not (first.working or first.waits or first.done is not None)
            if idle and self._inside[line] < self._flight:
                return line
        return None

    def _offer(self, line: int) -> None:
        self._free.setdefault(line)

    def _try(self, station: _Station) -> None:
        """Begin with the next feed, where there is one, and all that it needs."""
        if station.working or station.done is not None or not station.waits:
            return
        behind, resource = station.behind, station.resource
        if station.step.sends and behind is not None and not behind.has_room:
            return
        if resource.busy:
            if not station.asked:
                station.asked = True
                resource.asks.append(station)
            return
        feed = station.waits.popleft()
        station.working = resource.busy = True
        if station.step.sends and behind is not None:
            behind.coming += 1
        seconds = station.step.seconds
        if self._width:
            seconds *= self._random.lognormal(-(self._width**2) / 2, self._width)
        self._later(self._now + seconds, station, feed)
        self._room_before(station)

    def _room_before(self, station: _Station) -> None:
        """There is a place before a station: whoever has waited for it may go on."""
        before = station.before
        if before is None:
            return
        if before.done is not None and station.has_room:
            feed, before.done = before.done, None
            station.waits.append(feed)
            self._try(station)
            self._offer(before.line)
        self._try(before)

    def _finished(self, station: _Station, feed: int) -> None:
        station.working = station.resource.busy = False
        behind = station.behind
        if behind is None:
            self.left[feed] = self._now
            self._inside[station.line] -= 1
        elif station.step.sends or behind.has_room:
            behind.coming -= station.step.sends
            behind.waits.append(feed)
            self._try(behind)
        else:
            station.done = feed
        while station.resource.asks and not station.resource.busy:
            asks = station.resource.asks.popleft()
            asks.asked = False
            self._try(asks)
        self._try(station)
        if station.before is None or behind is None:
            self._offer(station.line)
