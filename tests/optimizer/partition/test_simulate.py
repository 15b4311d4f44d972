"""Forecasts beside what queueing theory and plain arithmetic say."""

from __future__ import annotations

import pytest

from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition.simulate import Conditions, simulate


def test_a_pipeline_is_as_fast_as_its_slowest_station() -> None:
    found = simulate([1.0, 0.1, 2.0, 0.5, 1.0], 400)
    assert found.throughput == pytest.approx(0.5, rel=1e-3)
    assert found.busy == pytest.approx((0.5, 1.0, 0.5), rel=0.02)
    slow_link = simulate([1.0, 4.0, 2.0], 400)
    assert slow_link.throughput == pytest.approx(0.25, rel=1e-3)


def test_a_feed_alone_takes_the_sum() -> None:
    found = simulate([1.0, 0.25, 2.0], 200, conditions=Conditions(rate=0.001))
    assert found.latency == pytest.approx(3.25)


def test_replicas_add_up() -> None:
    one, four = (simulate([1.0, 0.0, 1.0], 2000, replicas=count) for count in (1, 4))
    assert four.throughput == pytest.approx(4 * one.throughput, rel=0.01)


def test_a_straggler_holds_all_back() -> None:
    found = simulate([1.0, 0.0, 1.0, 0.0, 1.0], 400, conditions=Conditions(slowed={1: 2.0}))
    assert found.throughput == pytest.approx(0.5, rel=1e-3)


def test_one_server_with_arrivals_at_random_waits_as_theory_says() -> None:
    """M/D/1: the mean wait is rho s / 2 (1 - rho); the median is below the mean."""
    found = simulate([1.0], 60_000, conditions=Conditions(rate=0.8), seed=3)
    mean_wait = 0.8 / (2 * (1 - 0.8))
    assert 1.0 + 0.5 * mean_wait < found.latency < 1.0 + mean_wait
    assert found.throughput == pytest.approx(0.8, rel=0.02)
    assert found.busy[0] == pytest.approx(0.8, rel=0.02)


def test_few_places_cost_throughput_where_times_scatter() -> None:
    even = simulate([1.0, 0.0, 1.0], 4000)
    uneven = simulate([1.0, 0.0, 1.0], 4000, conditions=Conditions(scatter=0.8))
    assert 0.6 < uneven.throughput / even.throughput < 0.97


def test_failures_cost_what_they_lose() -> None:
    """A service of s with failures at rate f and no pause takes (e^(f s) - 1) / f on average."""
    found = simulate([1.0], 40_000, conditions=Conditions(fails=2.0), seed=1)
    expected = (2.718281828459045**0.5 - 1.0) * 2.0
    assert 1.0 / found.throughput == pytest.approx(expected, rel=0.02)
    longer = simulate([1.0], 40_000, conditions=Conditions(fails=2.0, back=1.0), seed=1)
    assert longer.throughput < found.throughput


@pytest.mark.parametrize(
    ("seconds", "feeds", "replicas"), [([], 5, 1), ([1.0], 1, 1), ([1.0], 5, 0)]
)
def test_nothing_to_simulate(seconds: list[float], feeds: int, replicas: int) -> None:
    with pytest.raises(UsageError):
        simulate(seconds, feeds, replicas=replicas)
