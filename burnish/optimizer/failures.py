"""What failures cost replicas that run for long: devices fail, and their replicas begin anew.

Failures are rarer than feeds by many orders of magnitude, so that they are simulated on a clock of
their own: a replica is up until one of its devices fails (at random, memoryless), and then down
until all that it lost is there again.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FAILURES = 4000
"""Failures that are looked at."""


@dataclass(frozen=True)
class Availability:
    """Shares of the time, or of the replicas.

    Attributes:
        up: replicas that are up, on average over time.
        whole: the time in which all of them are.
        least: the fewest that were up at once.
    """

    up: float
    whole: float
    least: float


def availability(
    devices: Sequence[int], between: float, recovery: float, seed: int = 0
) -> Availability:
    """What is up of replicas.

    Args:
        devices: of each replica; one that fails takes its replica down.
        between: mean seconds until a device fails.
        recovery: seconds until its replica is up again.
        seed: of the times at which they fail.
    """
    random = np.random.default_rng(seed)
    means = [between / count for count in devices]
    events = [(float(random.exponential(mean)), index) for index, mean in enumerate(means)]
    heapq.heapify(events)
    down: list[float] = []
    count = least = len(devices)
    now = area = whole = 0.0
    for _ in range(FAILURES):
        when, index = heapq.heappop(events)
        while down and down[0] <= when:
            now, area, whole = _to(heapq.heappop(down), now, area, whole, count, len(down) + 1)
        now, area, whole = _to(when, now, area, whole, count, len(down))
        heapq.heappush(down, when + recovery)
        least = min(least, count - len(down))
        again = when + recovery + float(random.exponential(means[index]))
        heapq.heappush(events, (again, index))
    return Availability(area / now / count, whole / now, least / count)


def _to(
    when: float, now: float, area: float, whole: float, replicas: int, down: int
) -> tuple[float, float, float]:
    """Time goes on to `when` with so many replicas down."""
    passed = when - now
    return when, area + passed * (replicas - down), whole + passed * (down == 0)
