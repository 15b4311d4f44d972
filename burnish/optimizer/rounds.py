"""The ratio of two models' times over rounds, each of which has processes of its own.

What a process gets once (where its memory lies, which cores its threads are on) stays as long as it
lives: pairs of blocks of one process are more alike than those of two runs of the program, and an
interval over them alone is too narrow to compare a run with another one. So the interval is drawn
on both levels, rounds and the pairs within them (Kalibera and Jones, "Rigorous benchmarking in
reasonable time", 2013), and measuring goes on until it lies on one side of the bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.measure import Contest, Entrant, Timing

BLOCK_SECONDS = 0.1
"""Length that a block of runs aims at; short, since what disturbs a machine comes and goes."""

PAIRS = 8
"""Pairs of blocks in a round."""

LEAST_ROUNDS = 4
"""Rounds below which no interval is trusted."""

SURE = 0.99
"""Level of the interval that decides: it is looked at after each round."""

WIDER = 2.576 / 1.960
"""A normal interval of 99 % over one of 95 %."""

DRAWS = 2000

Round = Sequence[tuple[float, float]]
"""Seconds of a run of the baseline and of the candidate, for each pair of blocks."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of times, with its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval, on the scale of logarithms."""
        return math.log(self.high / self.low) / 2

    def at_most(self, bound: float) -> bool | None:
        """Whether it surely is at most so large, or surely not; None where neither is sure."""
        if self.high <= bound:
            return True
        return False if self.low > bound else None


def ratio(rounds: Sequence[Round], level: float = 0.95) -> Ratio:
    """The candidate's time over the baseline's: the median over all pairs, and its interval.

    Args:
        rounds: of equally many pairs each.
        level: of the interval, by a bootstrap of rounds and then of pairs.
    """
    logs = np.log([[candidate / baseline for baseline, candidate in item] for item in rounds])
    count, pairs = logs.shape
    # A fixed seed: the interval is a function of the times alone.
    random = np.random.default_rng(0)
    which = random.integers(0, count, (DRAWS, count, 1))
    drawn = logs[which, random.integers(0, pairs, (DRAWS, count, pairs))]
    ends = (50 * (1 - level), 50 * (1 + level))
    low, high = np.percentile(np.median(drawn.reshape(DRAWS, -1), axis=1), ends)
    return Ratio(math.exp(np.median(logs)), math.exp(low), math.exp(high))


def change(now: Ratio, before: Ratio) -> Ratio:
    """How many times the earlier ratio the later one is; both intervals are of one level."""
    value = now.value / before.value
    down = math.hypot(math.log(now.value / now.low), math.log(before.high / before.value))
    up = math.hypot(math.log(now.high / now.value), math.log(before.value / before.low))
    return Ratio(value, value * math.exp(-down), value * math.exp(up))


def widened(found: Ratio) -> Ratio:
    """An interval of 95 % as one of `SURE`."""
    low, high = found.low / found.value, found.high / found.value
    return Ratio(found.value, found.value * low**WIDER, found.value * high**WIDER)


def measured(
    contest: Callable[[], Contest],
    entrants: Mapping[str, Entrant],
    settled: Callable[[Sequence[Round]], bool],
    seconds: float,
) -> list[Round]:
    """Rounds of pairs of two entrants, until they settle it.

    Args:
        contest: makes the processes of a round.
        entrants: the baseline first.
        settled: whether the rounds so far are enough; asked once there are `LEAST_ROUNDS`.
        seconds: after which no round is begun, if there are so many.

    Raises:
        BurnishError: where an entrant does not load or run.
    """
    first, second = entrants
    deadline = time.monotonic() + seconds
    rounds: list[Round] = []
    while True:
        with contest() as current:
            current.begin(entrants)
            turns = current.turns(entrants, BLOCK_SECONDS)
            taken = [next(turns) for _ in range(PAIRS)]
        rounds.append([(turn[first], turn[second]) for turn in taken])
        if len(rounds) < LEAST_ROUNDS:
            continue
        if settled(rounds) or time.monotonic() > deadline:
            return rounds


def timing(rounds: Sequence[Round]) -> Timing:
    """What the rounds say, as of any other measurement."""
    found = ratio(rounds)
    times = np.median([pair for item in rounds for pair in item], axis=0)
    return Timing(
        baseline_ms=float(times[0]) * 1e3,
        candidate_ms=float(times[1]) * 1e3,
        speedup=1 / found.value,
        low=1 / found.high,
        high=1 / found.low,
        pairs=sum(map(len, rounds)),
    )
