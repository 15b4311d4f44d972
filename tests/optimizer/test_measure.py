"""Ratios of paired blocks, on numbers instead of clocks."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.optimizer.measure import timing


def test_a_constant_ratio_has_no_spread() -> None:
    found = timing([0.2] * 7, [0.1] * 7)
    assert (found.speedup, found.low, found.high, found.pairs) == (2.0, 2.0, 2.0, 7)
    assert (found.baseline_ms, found.candidate_ms) == (200.0, 100.0)


def test_the_ratio_is_that_within_pairs() -> None:
    """A machine that slows down by half on the way changes no ratio."""
    drift = np.linspace(1, 2, 9)
    found = timing(0.3 * drift, 0.2 * drift)
    assert found.speedup == pytest.approx(1.5)
    assert found.high - found.low < 1e-9


def test_one_disturbed_pair_does_not_move_the_median() -> None:
    baseline = [0.1] * 9
    baseline[4] = 5.0
    found = timing(baseline, [0.1] * 9)
    assert found.speedup == 1.0
    assert found.low == 1.0


def test_noise_without_a_difference_has_one_in_the_interval() -> None:
    random = np.random.default_rng(5)
    found = [timing(*random.normal(0.1, 0.01, (2, 15))) for _ in range(40)]
    assert all(item.low <= item.speedup <= item.high for item in found)
    assert sum(item.low <= 1.0 <= item.high for item in found) >= 34


def test_a_slower_candidate_is_below_one() -> None:
    found = timing([0.1, 0.11, 0.1, 0.12, 0.1, 0.11, 0.1], [0.2] * 7)
    assert found.high < 1.0


def test_the_interval_is_a_function_of_the_times() -> None:
    times = np.random.default_rng(0).uniform(0.1, 0.2, (2, 9))
    assert timing(*times) == timing(*times)


def test_more_pairs_give_a_narrower_interval() -> None:
    random = np.random.default_rng(1)
    few, many = (
        timing(random.normal(1, 0.05, count), random.normal(1, 0.05, count)) for count in (8, 400)
    )
    assert many.high - many.low < few.high - few.low
