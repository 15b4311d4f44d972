"""Honest timing: paired, in separate processes, in alternating blocks, with an interval.

Two models are never timed in one process (the spinning threads of a live session slow its
neighbour), nor one after the other (the machine's speed drifts): each has a process of its own,
which is stopped by a signal while the other one runs. What counts is the ratio within a pair of
blocks; its median and a bootstrap interval are reported, never a difference of totals.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from burnish.optimizer.errors import BurnishError
from burnish.optimizer.sandbox import Limits, Worker
from burnish.optimizer.turns import Turn

BLOCK_SECONDS = 0.2
"""Length that a block of runs of one model aims at."""

LEAST_PAIRS = 7
"""Pairs of blocks below which no interval is trusted."""

HALF_WIDTH = 0.02
"""Relative half-width of the interval at which measuring stops."""


@dataclass(frozen=True)
class Timing:
    """A candidate against a baseline.

    Attributes:
        baseline_ms: median time of a run of the baseline, in milliseconds.
        candidate_ms: likewise of the candidate.
        speedup: median over pairs of blocks of baseline time over candidate time.
        low, high: 95 % bootstrap interval of `speedup`.
        pairs: pairs of blocks.
    """

    baseline_ms: float
    candidate_ms: float
    speedup: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Entrant:
    """A model file, the folder of its feeds (see `runtimes.arrays.write_arrays`), its provider.

    Without a provider it runs on that of the contest.
    """

    path: Path
    feeds: Path
    provider: str = ""


class Contest:
    """Processes that time models in turn, one per name; each opens what it is given.

    Args:
        stopwatch: `module:function` that times runs on command, in a child.
        limits: of each process.
        provider, threads: of the sessions; 0 threads is the runtime's default.
        turn: a file that compilations side by side share, see `turns`; None for one alone.
        undisturbed: the time of a block is that without its waiting for a processor.
    """

    def __init__(
        self,
        stopwatch: str,
        limits: Limits,
        *,
        provider: str = "cpu",
        threads: int = 0,
        turn: str | None = None,
        undisturbed: bool = False,
    ) -> None:
        self._undisturbed = undisturbed
        self._stopwatch = stopwatch
        self._limits = limits
        self._settings: dict[str, str | int] = {"provider": provider, "threads": threads}
        self._turn = turn
        self._stack = contextlib.ExitStack()
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Contest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def admit(self, name: str, entrant: Entrant) -> None:
        """Run the entrant once; raises BurnishError where it does not load or run."""
        self._block(name, entrant, 1)

    def compare(
        self, entrants: Mapping[str, Entrant], seconds: float, block: float = BLOCK_SECONDS
    ) -> dict[str, Timing]:
        """Time the entrants in alternation for about `seconds`; the first is the baseline.

        A block of runs of one entrant aims at `block` seconds.

        Raises:
            BurnishError: where an entrant does not load or run.
        """
        with Turn(Path(self._turn) if self._turn else None) as turn:
            return self._in_turn(entrants, seconds, block, turn)

    def _in_turn(
        self, entrants: Mapping[str, Entrant], seconds: float, block: float, turn: Turn
    ) -> dict[str, Timing]:
        names = list(entrants)
        turns = self.turns(entrants, block)
        blocks: dict[str, list[float]] = {name: [] for name in names}
        deadline = time.monotonic() + seconds
        while True:
            turn.hold()
            for name, time_of_run in next(turns).items():
                blocks[name].append(time_of_run)
            timings = {name: timing(blocks[names[0]], blocks[name]) for name in names[1:]}
            enough = len(blocks[names[0]]) >= LEAST_PAIRS
            narrow = all(item.high - item.low <= 2 * HALF_WIDTH for item in timings.values())
            if enough and (narrow or time.monotonic() > deadline):
                return timings

    def turns(
        self, entrants: Mapping[str, Entrant], block: float = BLOCK_SECONDS
    ) -> Iterator[dict[str, float]]:
        """Blocks of runs of each entrant in turn, without end: median seconds of a run by name.

        All of them are warm when this returns.
        """
        names = list(entrants)
        runs = {name: self._warm_up(name, entrants[name], block) for name in names}

        def blocks() -> Iterator[dict[str, float]]:
            for index in itertools.count():
                # Who goes first changes from pair to pair, so that neither inherits a warm cache.
                order = names if index % 2 == 0 else names[::-1]
                yield {name: self._time(name, entrants[name], runs[name]) for name in order}

        return blocks()

    def _warm_up(self, name: str, entrant: Entrant, block: float) -> int:
        first = self._block(name, entrant, 1)["seconds"][0]
        runs = max(1, min(20, int(block / 2 / max(first, 1e-6))))
        second = self._block(name, entrant, runs)["seconds"]
        return max(1, int(block / max(statistics.median(second), 1e-6)))

    def _time(self, name: str, entrant: Entrant, runs: int) -> float:
        """Seconds of a run in a block of them."""
        report = self._block(name, entrant, runs)
        if self._undisturbed:
            return float(report["undisturbed"])
        return statistics.median(map(float, report["seconds"]))

    def begin(self, names: Iterable[str]) -> None:
        """Start the processes of these names; they import what they need side by side."""
        for name in names:
            self._worker(name)

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            worker = self._stack.enter_context(Worker(self._stopwatch, {}, self._limits))
            self._workers[name] = worker
        return self._workers[name]

    def _block(self, name: str, entrant: Entrant, runs: int) -> dict[str, Any]:
        worker = self._worker(name)
        os.kill(worker.pid, signal.SIGCONT)
        order = {"path": str(entrant.path), "feeds": str(entrant.feeds), "runs": runs}
        order |= self._settings | ({"provider": entrant.provider} if entrant.provider else {})
        try:
            report = worker.ask(order)
        except BurnishError:
            # Its process has ended; the next entrant of that name gets another.
            del self._workers[name]
            raise
        os.kill(worker.pid, signal.SIGSTOP)
        return report


def timing(baseline: Sequence[float], candidate: Sequence[float]) -> Timing:
    """The ratio of paired block medians (seconds), with its 95 % bootstrap interval."""
    first, second = np.asarray(baseline), np.asarray(candidate)
    ratios = first / second
    # A fixed seed: the interval is a function of the times alone.
    draws = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return Timing(
        baseline_ms=float(np.median(first)) * 1e3,
        candidate_ms=float(np.median(second)) * 1e3,
        speedup=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        pairs=len(ratios),
    )
