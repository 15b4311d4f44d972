"""What a pipeline does on devices that are not here: throughput, latency, and idle time.

Stages and the transfers between them are stations in a row, each of which takes one feed at a time,
with few places before it. A station that has finished keeps its feed until there is room behind it
(blocking after service). When each feed starts and leaves follows from when the feeds before it
did, so that no clock has to be run event by event:

    start(i, n) = max(leave(i - 1, n), leave(i, n - 1))
    leave(i, n) = max(start(i, n) + service(i, n), start(i + 1, n - places))

Several replicas of a pipeline take feeds as their first stations are free. Service times may
scatter, and devices fail: what was computed is lost, and begun anew when the device is back.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition.planner import Plan

PLACES = 2
"""Feeds that wait before a station; that of `runtimes.pipeline`."""

WARM_UP = 0.1
"""Share of the feeds that comes before anything is counted: the pipeline fills."""


@dataclass(frozen=True)
class Conditions:
    """What the stations do that is not in the plan.

    Attributes:
        rate: feeds that come in a second, at random times; None for as many as there is room for.
        scatter: standard deviation of service times over their mean (log-normal).
        slowed: factors on the time of stages, by their numbers from 0, in every replica.
        fails: mean seconds until a stage's device fails, while it computes; infinite for never.
        back: seconds until it is back.
    """

    rate: float | None = None
    scatter: float = 0.0
    slowed: Mapping[int, float] = field(default_factory=dict)
    fails: float = math.inf
    back: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What came of it.

    Attributes:
        throughput: feeds a second, once it is full.
        latency, latency_99: median and 99th percentile of the seconds from coming in to leaving.
        busy: share of the time that each stage computes, over all replicas.
    """

    throughput: float
    latency: float
    latency_99: float
    busy: tuple[float, ...]


def stations(plan: Plan) -> list[float]:
    """Seconds of stages and transfers in turn; transfers are stations 1, 3, ..."""
    found = []
    for stage in plan.stages:
        found += [stage.seconds, stage.sends]
    return found[:-1]


def simulate(
    seconds: Sequence[float],
    feeds: int,
    *,
    replicas: int = 1,
    conditions: Conditions | None = None,
    seed: int = 0,
) -> Forecast:
    """Send so many feeds through stages and transfers in turn; see `stations`.

    Raises:
        UsageError: there is nothing to send, or nowhere to send it.
    """
    told = conditions or Conditions()
    if len(seconds) % 2 != 1 or feeds < 2 or replicas < 1:
        raise UsageError("a simulation takes stages with transfers between, and feeds")
    random = np.random.default_rng(seed)
    services = _services(seconds, feeds, told, random)
    comes = np.zeros(feeds)
    if told.rate is not None:
        comes = np.cumsum(random.exponential(1.0 / told.rate, feeds))
    lines = [_Line(len(seconds)) for _ in range(replicas)]
    free = [(0.0, index) for index in range(replicas)]
    leaves = np.zeros(feeds)
    starts = np.zeros(feeds)
    for feed in range(feeds):
        _, index = heapq.heappop(free)
        starts[feed], leaves[feed] = lines[index].take(comes[feed], services[feed])
        heapq.heappush(free, (lines[index].free, index))
    if told.rate is None:
        comes = starts
    counted = slice(int(feeds * WARM_UP), feeds)
    span = max(float(leaves.max() - np.sort(leaves)[counted.start - 1]), 1e-12)
    waits = (leaves - comes)[counted]
    whole = float(leaves.max())
    return Forecast(
        throughput=(feeds - counted.start) / span,
        latency=float(np.median(waits)),
        latency_99=float(np.quantile(waits, 0.99)),
        busy=tuple(
            float(services[:, i].sum() / whole / replicas) for i in range(0, len(seconds), 2)
        ),
    )


def _services(
    seconds: Sequence[float], feeds: int, told: Conditions, random: np.random.Generator
) -> np.ndarray:
    """Seconds that each feed takes at each station, [feeds, stations]."""
    slowed = [told.slowed.get(i // 2, 1.0) if i % 2 == 0 else 1.0 for i in range(len(seconds))]
    means = np.array(seconds) * slowed
    made = np.tile(means, (feeds, 1))
    if told.scatter:
        width = math.sqrt(math.log1p(told.scatter**2))
        made = made * random.lognormal(-(width**2) / 2, width, made.shape)
    if math.isfinite(told.fails):
        for station in range(0, len(seconds), 2):
            made[:, station] = [_with_failures(item, told, random) for item in made[:, station]]
    return made


def _with_failures(service: float, told: Conditions, random: np.random.Generator) -> float:
    """Seconds until a feed is computed whole, with all that is lost before."""
    spent = 0.0
    while (until := random.exponential(told.fails)) < service:
        spent += until + told.back
        if spent > 1e3 * (service + told.back):
            return math.inf  # it fails more often than it can be done
    return spent + service


class _Line:
    """The stations of one replica."""

    def __init__(self, count: int) -> None:
        self._left = [0.0] * count
        self._started: list[list[float]] = [[] for _ in range(count)]

    @property
    def free(self) -> float:
        """When the first station can take a feed."""
        return self._left[0]

    def take(self, comes: float, service: np.ndarray) -> tuple[float, float]:
        """When a feed starts, and when it leaves the last station."""
        count, number = len(self._left), len(self._started[0])
        ready, begun = comes, 0.0
        for station in range(count):
            start = max(ready, self._left[station])
            begun = start if station == 0 else begun
            done = start + float(service[station])
            if station + 1 < count and number >= PLACES:
                done = max(done, self._room(station + 1, number))
            self._started[station].append(start)
            self._left[station] = ready = done
        return begun, ready

    def _room(self, station: int, number: int) -> float:
        """When there is a place before a station for its feed of that number."""
        return self._started[station][number - PLACES]
