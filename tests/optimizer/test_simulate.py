"""Forecasts beside what queueing theory and plain arithmetic say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.errors import UsageError
from burnish.optimizer.failures import availability
from burnish.optimizer.partition.cluster import Cluster, Device, Link
from burnish.optimizer.partition.host import Host
from burnish.optimizer.partition.lines import lines_of
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.simulate import Step, simulate


def line(*seconds: float, prefix: str = "") -> list[Step]:
    """Stages and transfers in turn, each on something of its own."""
    return [Step(item, f"{prefix}{i}", sends=i % 2 == 1) for i, item in enumerate(seconds)]


times = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=7).filter(lambda x: len(x) % 2)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(times, st.integers(1, 3))
def test_a_pipeline_is_as_fast_as_its_slowest_step(seconds: list[float], replicas: int) -> None:
    lines = [line(*seconds, prefix=f"{index}/") for index in range(replicas)]
    found = simulate(lines, 200 * replicas)
    assert found.throughput == pytest.approx(replicas / max(seconds), rel=0.03)
    assert found.latency >= sum(seconds) * (1 - 1e-9)
    assert all(0.0 <= share <= 1.0 + 1e-9 for share in found.busy.values())
    slowest = [f"{r}/{i}" for r in range(replicas) for i in range(len(seconds))
               if seconds[i] > 0.9 * max(seconds)]  # fmt: skip
    assert found.binds in slowest
    assert simulate(lines, 200 * replicas) == found


def test_idle_time_and_transfers_behind_computing() -> None:
    found = simulate([line(1.0, 0.1, 2.0, 0.5, 1.0)], 400)
    assert [found.busy[name] for name in "024"] == pytest.approx([0.5, 1.0, 0.5], rel=0.02)


def test_a_feed_alone_takes_the_sum() -> None:
    assert simulate([line(1.0, 0.25, 2.0)], 200, rate=0.001).latency == pytest.approx(3.25)


def test_few_feeds_in_flight_leave_a_bubble() -> None:
    """m of s stages at work: as in GPipe (Huang et al. 2019), m / s of the throughput."""
    found = simulate([line(*[1.0, 0.0] * 7, 1.0)], 400, flight=4)
    assert found.throughput == pytest.approx(0.5, rel=0.02)


def test_a_link_that_two_lines_share_serves_them_in_turn() -> None:
    lines = [
        [Step(1.0, f"{i}/a"), Step(0.8, "link", sends=True), Step(1.0, f"{i}/b")] for i in range(2)
    ]
    found = simulate(lines, 800)
    assert found.throughput == pytest.approx(1.0 / 0.8, rel=0.01) and found.binds == "link"


def test_one_server_with_arrivals_at_random_waits_as_theory_says() -> None:
    """M/D/1: the mean wait is rho s / 2 (1 - rho); the median is below the mean."""
    found = simulate([line(1.0)], 40_000, rate=0.8, seed=3)
    mean_wait = 0.8 / (2 * (1 - 0.8))
    assert 1.0 + 0.5 * mean_wait < found.latency < 1.0 + mean_wait
    assert found.throughput == pytest.approx(0.8, rel=0.02)
    assert found.busy["0"] == pytest.approx(0.8, rel=0.02)


def test_few_places_cost_throughput_where_times_scatter() -> None:
    even = simulate([line(1.0, 0.0, 1.0)], 4000)
    uneven = simulate([line(1.0, 0.0, 1.0)], 4000, scatter=0.8)
    assert 0.6 < uneven.throughput / even.throughput < 0.97


def test_replicas_that_fail_are_up_as_renewal_theory_says() -> None:
    found = availability([16] * 8, 1e6, 6e3, seed=1)
    assert found.up == pytest.approx(1e6 / (1e6 + 16 * 6e3), rel=0.01)
    assert found.whole == pytest.approx(found.up**8, rel=0.1)
    assert found.least < found.up
    assert availability([16] * 8, 1e6, 6e3, seed=1) == found


def test_devices_of_a_host_slow_each_other_down() -> None:
    host = Host(contention=0.2)
    assert host.together([1.0, 1.0], 0.0) == pytest.approx([1.2, 1.2])
    assert host.together([1.0], 0.1) == pytest.approx([1.1])
    uneven = host.together([1.0, 0.5], 0.0)
    assert uneven[0] == pytest.approx(1.0 + 0.2 * uneven[1] / uneven[0])
    assert uneven[1] == pytest.approx(0.5 * 1.2)


def planned() -> tuple[Plan, Cluster]:
    devices = [Device(f"d{i}", 1.0, 1.0, node="one" if i < 2 else "two") for i in range(4)]
    stages = [Stage(d, i, i + 1, 1.0, 0.25 * (i < 3), 0.0, 0.0) for i, d in enumerate(devices)]
    return Plan(tuple(stages), 1.0), Cluster(tuple(devices), Link(1.0), Link(4.0))


def test_plans_become_lines() -> None:
    plan, cluster = planned()
    (only,) = lines_of([plan], cluster)
    assert [step.uses for step in only] == [
        "d0", "link of d0", "d1", "link of node one", "d2", "link of d2", "d3"
    ]  # fmt: skip
    first, second = lines_of([plan, plan], cluster, {1: 3.0})
    assert [step.seconds for step in first] == [1.0, 0.25, 3.0, 0.25, 1.0, 0.25, 1.0]
    assert [step.seconds for step in second] == [1.0, 0.25, 1.0, 0.25, 1.0, 0.25, 1.0]
    shared = replace(cluster, host=Host(handover=0.5))
    assert [step.seconds for step in lines_of([plan], shared)[0]][::2] == [1.5] * 4


@pytest.mark.parametrize(("lines", "feeds"), [([], 5), ([[]], 5), ([[Step(1.0, "a")]], 1)])
def test_nothing_to_simulate(lines: list[list[Step]], feeds: int) -> None:
    with pytest.raises(UsageError):
        simulate(lines, feeds)
