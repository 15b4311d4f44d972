"""Plans beside all the plans that there are, and the bound beside the best of those."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.errors import ResourceLimit
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.chain import Atom
from burnish.optimizer.partition.cluster import Cluster, Device, Link
from burnish.optimizer.partition.planner import SLACK, TOLERANCE, equal_split, plan


@dataclass
class Made:
    """A chain by its numbers."""

    atoms: list[Atom]
    carried: list[float]
    weights: list[float]

    def __len__(self) -> int:
        return len(self.atoms)

    def memory(self, start: int, end: int) -> float:
        return sum(self.weights[start:end])


def made(flops: list[float], moved: list[float], carried: list[float]) -> Made:
    atoms = [Atom(f"n{i}", a, b, 0.0) for i, (a, b) in enumerate(zip(flops, moved, strict=True))]
    return Made(atoms, [*carried[: len(atoms) - 1], 0.0], moved)


def best_of_all(chain: Made, cluster: Cluster) -> float:
    """The slowest stage or transfer of the best plan, by trying all; infinite where none fits."""
    size, found = len(chain), math.inf
    for count in range(1, min(size, len(cluster.devices)) + 1):
        for cuts in itertools.combinations(range(1, size), count - 1):
            places = [0, *cuts, size]
            sends = max((cluster.link.seconds(chain.carried[cut - 1]) for cut in cuts), default=0)
            for devices in itertools.permutations(cluster.devices, count):
                slowest = sends
                for device, (start, end) in zip(devices, itertools.pairwise(places), strict=True):
                    atoms = chain.atoms[start:end]
                    seconds = sum(device.seconds(atom.flops, atom.moved) for atom in atoms)
                    fits = chain.memory(start, end) <= device.memory
                    slowest = max(slowest, seconds if fits else math.inf)
                found = min(found, slowest)
    return found


numbers = st.floats(0.5, 20.0)
devices = st.builds(
    Device, st.just("d"), st.sampled_from([1.0, 2.0, 5.0]), st.sampled_from([0.5, 3.0]),
    st.sampled_from([20.0, 60.0, math.inf]),
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(numbers, numbers, numbers), min_size=2, max_size=6),
    st.lists(devices, min_size=1, max_size=3),
    st.sampled_from([Link(), Link(1.0, 0.0), Link(4.0, 1.0)]),
)
def test_no_plan_is_better_and_none_beats_the_bound(
    rows: list[tuple[float, float, float]], some: list[Device], link: Link
) -> None:
    chain, cluster = made(*map(list, zip(*rows, strict=True))), Cluster(tuple(some), link)
    best = best_of_all(chain, cluster)
    bound = lower_bound(chain, cluster)  # type: ignore[arg-type]
    if math.isinf(best):
        with pytest.raises(ResourceLimit, match="do not fit"):
            plan(chain, cluster)  # type: ignore[arg-type]
        return
    found = plan(chain, cluster)  # type: ignore[arg-type]
    assert best * (1 - 1e-9) <= found.bottleneck <= best * (1 + 2 * TOLERANCE) * (1 + SLACK)
    assert bound <= best * (1 + 1e-9)
    assert [item.start for item in found.stages] == [0, *(item.end for item in found.stages)][:-1]
    assert found.stages[-1].end == len(chain)
    assert all(item.memory <= item.device.memory for item in found.stages)


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
