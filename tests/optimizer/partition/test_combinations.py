"""Replicas, groups and pipelines together, beside all the combinations that there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from chains import Made, Part, all_plans, halves, made
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.errors import ResourceLimit, UsageError
from burnish.optimizer.partition.cluster import Cluster, Device, Link, Special
from burnish.optimizer.partition.combinations import (
    LATENCY,
    THROUGHPUT,
    Combination,
    combine,
)
from burnish.optimizer.partition.planner import SLACK, TOLERANCE, plan
from burnish.optimizer.partition.remedies import remedies
from burnish.optimizer.partition.run_costs import RunCosts

FAST, SLOW = Device("fast", 4.0, 4.0), Device("slow", 1.0, 1.0)


def several(device: Device, count: int, **settings: Any) -> tuple[Device, ...]:
    return tuple(
        replace(device, name=f"{device.name}:{index}", **settings) for index in range(count)
    )


def layers(count: int) -> Made:
    """Layers of three operators, whose stream is narrow behind the last."""
    return made([2.0, 1.0, 3.0] * count, [0.5] * 3 * count, [4.0, 8.0, 1.0] * count)


def costs(chain: Made, cluster: Cluster, shares: Any = None, single: bool = True) -> RunCosts:
    untyped: Any = chain
    return RunCosts(untyped, cluster, shares, single)


def quarters(chain: Made, reduced: float) -> dict[int, list[Part]]:
    """Groups of two and four, which divide all."""
    return {
        size: [Part(1 / size, weight / size, reduced) for weight in chain.weights]
        for size in (2, 4)
    }


def partitions(items: Sequence[Device]) -> Iterator[list[list[Device]]]:
    """Ways to put devices into sets."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for index in range(len(rest)):
            yield [*rest[:index], [items[0], *rest[index]], *rest[index + 1 :]]


numbers = st.floats(0.5, 20.0)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(numbers, numbers, numbers), min_size=2, max_size=4),
    st.lists(st.sampled_from([(1.0, math.inf), (3.0, 25.0)]), min_size=1, max_size=3),
    st.sampled_from([Link(), Link(2.0, 0.5)]),
    st.sampled_from([None, 1, 2]),
)
def test_no_combination_is_better_and_none_beats_the_bound(
    rows: list[tuple[float, float, float]],
    some: list[tuple[float, float]],
    link: Link,
    replicas: int | None,
) -> None:
    flops, moved, carried = map(list, zip(*rows, strict=True))
    chain = made(flops, moved, carried)
    devices = tuple(Device(f"d{i}", speed, speed, memory) for i, (speed, memory) in enumerate(some))
    rate = {
        part: 1.0 / min(slowest for slowest, _ in plans)
        for split in partitions(devices)
        for part in map(tuple, split)
        if (plans := list(all_plans(chain, Cluster(part, link))))
    }
    best = max(
        (
            sum(sorted((rate.get(tuple(part), 0.0) for part in split), reverse=True)[:replicas])
            for split in partitions(devices)
            if replicas is None or sum(tuple(part) in rate for part in split) >= replicas
        ),
        default=0.0,
    )
    if not best:
        with pytest.raises((ResourceLimit, UsageError)):
            combine(costs(chain, Cluster(devices, link)), THROUGHPUT, replicas)
        return
    found = combine(costs(chain, Cluster(devices, link)), THROUGHPUT, replicas)
    assert found.throughput <= best * (1 + 1e-9) <= found.bound * (1 + 2e-9)
    # The estimates that sets of devices are chosen by are as near as plans are.
    assert found.throughput >= best * 0.98 * (1 - SLACK - 2 * TOLERANCE)
    used = [device for item in found.replicas for device in item.devices]
    assert len(set(used)) == len(used)
    assert replicas in (None, len(found.replicas))


def test_a_model_that_fits_is_copied_and_one_that_does_not_is_cut() -> None:
    chain, link = layers(12), Link(4.0, 0.01)
    free = combine(costs(chain, Cluster(several(FAST, 4), link)), THROUGHPUT)
    assert [len(item.stages) for item in free.replicas] == [1] * 4 and free.gap < 0.01
    tight = Cluster(several(FAST, 4, memory=10.0), link)
    cut = combine(costs(chain, tight), THROUGHPUT)
    assert {len(item.devices) for item in cut.replicas} <= {2, 4}
    with pytest.raises(ResourceLimit):
        combine(costs(chain, tight), THROUGHPUT, 3)
    with pytest.raises(UsageError, match="5 replicas need as many devices, and there are 4"):
        combine(costs(chain, tight), THROUGHPUT, 5)


def test_uneven_replicas_have_uneven_devices() -> None:
    """Fast devices hold the model, slow ones only together."""
    chain = layers(12)
    devices = several(FAST, 2) + several(SLOW, 4, memory=5.0)
    found = combine(costs(chain, Cluster(devices, Link(100.0))), THROUGHPUT)
    assert found.gap < 0.02 and len(found.replicas) >= 2
    assert len({len(item.devices) for item in found.replicas}) > 1
    assert found.throughput == pytest.approx(sum(1 / item.bottleneck for item in found.replicas))


def test_groups_are_for_latency_where_sums_are_cheap() -> None:
    chain, cluster = layers(8), Cluster(several(FAST, 4), Link(100.0, 1e-4))
    shares = quarters(chain, 1.0)
    found = combine(costs(chain, cluster, shares), LATENCY)
    (whole,) = found.replicas
    assert len(whole.stages) == 1 and len(whole.stages[0].devices) == 4
    assert whole.stages[0].reduces > 0 and found.bound <= found.latency < 1.1 * found.bound
    two = combine(costs(chain, cluster, shares), LATENCY, 2)
    assert [len(item.devices) for item in two.replicas] == [2, 2]
    slow = Cluster(several(FAST, 4), Link(0.01, 1.0))
    alone = combine(costs(chain, slow, shares), LATENCY)
    assert len(alone.replicas[0].devices) == 1


def test_groups_that_are_asked_for_are_all_there_is() -> None:
    chain, cluster = layers(8), Cluster(several(FAST, 4), Link(50.0))
    found = combine(costs(chain, cluster, {2: halves(chain, [1.0] * 24)}, False), THROUGHPUT, 1)
    assert [len(stage.devices) for stage in found.replicas[0].stages] == [2, 2]
    assert found.throughput <= found.bound


def test_like_shares_of_many_devices() -> None:
    """More sets than can be told apart: the devices are dealt out."""
    devices = [several(replace(FAST, name=f"k{kind}", flops=4.0 + kind), 4) for kind in range(5)]
    cluster = Cluster(sum(devices, ()), Link(1000.0))
    found = combine(costs(layers(12), cluster), THROUGHPUT)
    assert found.gap < 0.2
    many = combine(costs(layers(12), cluster), THROUGHPUT, 4)
    assert [len(item.devices) for item in many.replicas] == [5] * 4


def test_replicas_stay_within_nodes() -> None:
    nodes = [several(replace(FAST, name=f"n{n}", memory=7.0, node=f"n{n}"), 3) for n in range(2)]
    mixed = [device for pair in zip(*nodes, strict=True) for device in pair]
    cluster = Cluster(tuple(mixed), Link(0.1), Link(100.0))
    found = combine(costs(layers(12), cluster), THROUGHPUT)
    assert [len({device.node for device in item.devices}) for item in found.replicas] == [1, 1]
    assert isinstance(found, Combination) and found.gap < 0.05


def test_a_link_between_pairs_makes_pairs() -> None:
    """Neighbours that hand on much are where the quick links are."""
    chain = made([1.0] * 4, [0.01] * 4, [8.0, 1.0, 8.0])
    quick = tuple(Special(f"fast:{i}", f"fast:{i + 1}", Link(100.0)) for i in (0, 2))
    cluster = Cluster(several(FAST, 4, flops=1.0), Link(1.0), links=quick)
    untyped: Any = chain
    found = plan(untyped, cluster)
    names = [stage.device.name for stage in found.stages]
    assert len(names) == 4 and {frozenset(names[:2]), frozenset(names[2:])} == {
        frozenset({"fast:0", "fast:1"}), frozenset({"fast:2", "fast:3"})
    }  # fmt: skip
    assert found.bottleneck == 1.0
    # A pair is a class of two, so that it can be a group.
    shares = quarters(chain, 0.1)
    grouped = combine(costs(chain, cluster, {2: shares[2]}, False), THROUGHPUT, 1)
    pairs = [{device.name for device in stage.devices} for stage in grouped.replicas[0].stages]
    assert {frozenset(pair) for pair in pairs} == {frozenset(names[:2]), frozenset(names[2:])}


def test_what_would_help() -> None:
    def slowest(some: RunCosts) -> float:
        return plan(some.chain, some.cluster).bottleneck

    chain = layers(12)
    devices = several(FAST, 1, memory=9.0) + several(SLOW, 3, memory=9.0)
    told = remedies(costs(chain, Cluster(devices)), slowest)
    assert (told[0].change, told[0].where) == ("memory", ("fast:0",)) and told[0].gain > 1.05
    narrow = Cluster(several(FAST, 4), Link(0.1))
    (link,) = remedies(costs(chain, narrow), slowest)
    assert (link.change, link.where) == ("link", ()) and link.gain > 1.5
    assert remedies(costs(chain, Cluster(several(FAST, 2))), slowest) == []
