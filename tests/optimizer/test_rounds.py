"""Ratios of times over rounds: what noise does to them, and what it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from burnish.optimizer import rounds
from burnish.optimizer.rounds import Ratio, change, measured, ratio, timing, widened


class Machine:
    """A busy machine: pairs and whole processes are off, now and then by much."""

    def __init__(self, true: float, seed: int) -> None:
        self.true = true
        self.random = np.random.default_rng(seed)

    @contextlib.contextmanager
    def contest(self) -> Iterator[Machine]:
        self.process = np.exp(self.random.normal(0, 0.02))
        yield self

    def begin(self, names: Any) -> None:
        assert len(list(names)) == 2

    def turns(self, entrants: Any, block: float) -> Iterator[dict[str, float]]:
        first, second = entrants
        while True:
            load = 1 + self.random.pareto(3)
            noise = np.exp(self.random.normal(0, 0.15, 2))
            noise[self.random.random(2) < 0.1] *= 2.5
            yield {
                first: 0.01 * load * noise[0],
                second: 0.005 * load * noise[1] * self.true * self.process,
            }


def judged(true: float, seed: int, bound: float = 1.1) -> tuple[bool, int]:
    """Whether a ratio that is `true` times the recorded one passes, and after how many rounds."""
    before = widened(Ratio(0.5, 0.49, 0.51))

    def changed(taken: Any) -> Ratio:
        return change(ratio(taken, rounds.SURE), before)

    taken = measured(
        Machine(true, seed).contest,  # type: ignore[arg-type]
        {"input": None, "artifact": None},  # type: ignore[dict-item]
        lambda taken: changed(taken).at_most(bound) is not None or len(taken) >= 40,
        3600.0,
    )
    return changed(taken).value <= bound, len(taken)


def test_noise_is_not_taken_for_a_slowdown_and_a_slowdown_not_for_noise() -> None:
    calm = [judged(1.0, seed) for seed in range(12)]
    slow = [judged(1.2, seed) for seed in range(12)]
    assert all(passed for passed, _ in calm)
    assert not any(passed for passed, _ in slow)
    # It goes on only as long as it has to.
    assert np.median([count for _, count in calm + slow]) < 30


def test_the_interval_knows_that_pairs_of_a_process_are_alike() -> None:
    """Its processes differ by more than their pairs: over pairs alone it would be too narrow."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        own = np.exp(random.normal(0, 0.1, (8, 1)) + random.normal(0, 0.01, (8, 8)))
        found = ratio([[(1.0, value) for value in row] for row in own])
        covered += found.low <= 1.0 <= found.high
    assert covered >= 80


def test_a_ratio_is_that_of_times() -> None:
    pairs = [[(2.0, 1.0)] * 3] * 4
    assert ratio(pairs) == Ratio(0.5, 0.5, 0.5)
    found = timing(pairs)
    assert (found.baseline_ms, found.candidate_ms) == (2000.0, 1000.0)
    assert (found.speedup, found.pairs) == (2.0, 12)


def test_a_change_has_the_noise_of_both() -> None:
    found = change(Ratio(0.6, 0.54, 0.66), Ratio(0.5, 0.5, 0.5))
    assert found.value == pytest.approx(1.2)
    assert (found.low, found.high) == pytest.approx((1.08, 1.32))
    wide = change(Ratio(0.6, 0.54, 0.66), Ratio(0.5, 0.4, 0.6))
    assert wide.low < found.low and wide.high > found.high
    assert widened(Ratio(1.0, 0.9, 1.1)).low < 0.9


@pytest.mark.parametrize(("bound", "sure"), [(1.05, False), (1.1, None), (1.2, True), (1.3, True)])
def test_which_side_of_a_bound(bound: float, sure: bool | None) -> None:
    assert Ratio(1.13, 1.06, 1.2).at_most(bound) is sure


def test_time_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "LEAST_ROUNDS", 2)
    machine = Machine(1.0, 0)
    names: Any = {"a": None, "b": None}
    taken = measured(machine.contest, names, lambda taken: False, 0.0)  # type: ignore[arg-type]
    assert len(taken) == 2
    assert {len(item) for item in taken} == {rounds.PAIRS}
