"""Plans beside all the plans that there are, and the bound beside the best of those."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from chains import all_plans, halves, made
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.errors import ResourceLimit
from burnish.optimizer.partition.bound import latency_bound, lower_bound
from burnish.optimizer.partition.certificate import NEAR, certified, reachable
from burnish.optimizer.partition.chain import Atom
from burnish.optimizer.partition.cluster import Cluster, Device, Link, Special
from burnish.optimizer.partition.equal import equal_split
from burnish.optimizer.partition.planner import SLACK, TOLERANCE, plan, quickest
from burnish.optimizer.partition.run_costs import RunCosts

numbers = st.floats(0.5, 20.0)
rows = st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=2, max_size=6)
devices = st.builds(
    Device, st.just("d"), st.sampled_from([1.0, 2.0, 5.0]), st.sampled_from([0.5, 3.0]),
    st.sampled_from([20.0, 60.0, math.inf]), st.sampled_from(["", "one", "two"]),
)  # fmt: skip
links = st.sampled_from([Link(), Link(1.0, 0.0), Link(4.0, 1.0)])
clusters = st.builds(
    lambda some, link, inside, pair: Cluster(
        tuple(replace(device, name=f"d{index}") for index, device in enumerate(some)),
        link, inside, (Special("d0", "d1", pair),) if pair is not None else (),
    ),
    st.lists(devices, min_size=1, max_size=3), links, st.none() | links, st.none() | links,
)  # fmt: skip
Row = tuple[float, float, float, float]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(rows, clusters)
def test_no_plan_is_better_and_none_beats_the_bound(some: list[Row], cluster: Cluster) -> None:
    flops, moved, carried, _ = map(list, zip(*some, strict=True))
    chain: Any = made(flops, moved, carried)
    costs = RunCosts(chain, cluster)
    best = min((slowest for slowest, _ in all_plans(chain, cluster)), default=math.inf)
    bound = lower_bound(costs).seconds
    if math.isinf(best):
        with pytest.raises(ResourceLimit, match="do not fit"):
            plan(chain, cluster)
        return
    found = plan(chain, cluster)
    assert best * (1 - 1e-9) <= found.bottleneck <= best * (1 + 2 * TOLERANCE) * (1 + SLACK)
    assert found.exact and bound <= best * (1 + 1e-9)
    proven = certified(costs, bound, found.bottleneck)
    assert proven is not None and best * (1 - 8 * NEAR) <= proven <= best * (1 + 1e-9)
    assert [item.start for item in found.stages] == [0, *(item.end for item in found.stages)][:-1]
    assert found.stages[-1].end == len(chain)
    assert all(item.memory <= item.device.memory for item in found.stages)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(*[numbers] * 4), min_size=2, max_size=4), clusters)
def test_groups_of_devices_and_one_run_by_itself(some: list[Row], cluster: Cluster) -> None:
    flops, moved, carried, reduced = map(list, zip(*some, strict=True))
    cluster = replace(cluster, devices=tuple(twins(cluster.devices)), links=())
    chain: Any = made(flops, moved, carried)
    shares = {2: halves(chain, reduced)}
    plans = list(all_plans(chain, cluster, shares))
    if not plans:
        return
    costs = RunCosts(chain, cluster, shares)
    best, soonest = (min(times) for times in zip(*plans, strict=True))
    found, quick = plan(chain, cluster, shares), quickest(chain, cluster, shares)
    assert best * (1 - 1e-9) <= found.bottleneck <= best * (1 + 2 * TOLERANCE) * (1 + SLACK)
    assert quick.exact and quick.latency == pytest.approx(soonest, rel=1e-6)
    assert lower_bound(costs).seconds <= best * (1 + 1e-9)
    assert latency_bound(costs) <= soonest * (1 + 1e-9)
    for made_plan in (found, quick):
        used = made_plan.devices
        assert len(set(used)) == len(used)
        assert all(item.memory <= item.device.memory for item in made_plan.stages)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(*[numbers] * 4), min_size=8, max_size=30), clusters)
def test_no_pipeline_of_a_longer_chain_is_better(some: list[Row], cluster: Cluster) -> None:
    flops, moved, carried, _ = map(list, zip(*some, strict=True))
    chain: Any = made(flops, moved, carried)
    costs = RunCosts(chain, cluster)
    try:
        found = plan(chain, cluster)
    except ResourceLimit:
        assert not reachable(costs, math.inf)
        return
    assert reachable(costs, found.bottleneck * (1 + 1e-6))
    assert not reachable(costs, found.bottleneck / (1 + SLACK) * (1 - 3 * TOLERANCE))


def twins(some: Sequence[Device]) -> Iterator[Device]:
    """The first device twice, and the second."""
    for index, device in enumerate(some[:2]):
        yield replace(device, name=f"d{index}")
        if index == 0:
            yield replace(device, name="twin")


def test_equal_devices_and_free_links_share_the_work() -> None:
    chain = made([1.0] * 96, [0.001] * 96, [1.0] * 96)
    found = plan(chain, Cluster((Device("d", 1.0, 1.0),) * 8))  # type: ignore[arg-type]
    assert [item.end - item.start for item in found.stages] == [12] * 8
    assert found.gap < SLACK + 2 * TOLERANCE
    equal = equal_split(chain, Cluster((Device("d", 1.0, 1.0),) * 8))  # type: ignore[arg-type]
    assert equal is not None and equal.bottleneck >= found.bottleneck


def test_uneven_devices_get_uneven_work() -> None:
    chain = made([1.0] * 40, [0.001] * 40, [1.0] * 40)
    cluster = Cluster((Device("fast", 3.0, 1.0), Device("slow", 1.0, 1.0)))
    found = plan(chain, cluster)  # type: ignore[arg-type]
    assert {item.device.name: item.end - item.start for item in found.stages} == {
        "fast": 30, "slow": 10
    }  # fmt: skip
    equal = equal_split(chain, cluster)  # type: ignore[arg-type]
    assert equal is not None and equal.bottleneck / found.bottleneck > 1.9


def test_what_is_as_fast_sends_the_least() -> None:
    chain = made([1.0] * 12, [0.001] * 12, [3.0, 3.0, 1.0] * 4)
    for atom in (2, 5, 8, 11):  # nothing to compute: either side of it is as good a place
        chain.atoms[atom] = Atom("", 0.0, 0.0, 0.0)
    found = plan(chain, Cluster((Device("d", 1.0, 1.0),) * 2))  # type: ignore[arg-type]
    assert [(item.start, item.end) for item in found.stages] == [(0, 6), (6, 12)]


def test_a_device_that_gains_nothing_gets_nothing() -> None:
    chain = made([1.0] * 8, [0.001] * 8, [100.0] * 8)
    found = plan(chain, Cluster((Device("d", 1.0, 1.0),) * 4, Link(1.0)))  # type: ignore[arg-type]
    assert len(found.stages) == 1 and found.gap < 1e-9


def test_many_layers_on_many_devices_take_seconds() -> None:
    """96 layers of 12 operators, 64 devices of two kinds."""
    chain = made([3.0, 0.1, 7.0] * 4 * 96, [0.5] * 12 * 96, [4.0, 9.0, 1.0] * 4 * 96)
    cluster = Cluster((Device("a", 2.0, 2.0),) * 32 + (Device("b", 1.0, 1.0),) * 32, Link(1.0, 0.1))
    start = time.monotonic()
    found = plan(chain, cluster)  # type: ignore[arg-type]
    assert time.monotonic() - start < 60  # 10 on a machine that does nothing else
    assert found.gap < 0.06
