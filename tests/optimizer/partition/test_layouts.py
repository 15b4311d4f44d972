"""Laws of parts: what is divided is there once, what belongs together stays so, axes come apart."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.partition.shards.layout import (
    WHOLE,
    Layout,
    Parts,
    divided,
    factors,
    flattened,
    joined,
    positions,
)
from burnish.runtimes.shards.meeting import Table, slice_of, summed

LAWS = settings(max_examples=80, deadline=None, derandomize=True, database=None)


@LAWS
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(1, 8))
def test_units_are_not_cut(groups: int, heads: int, size: int, ranks: int) -> None:
    units = [heads * size, size, 1]
    units = [unit for unit in units if unit < groups * heads * size] or [1]
    total = groups * heads * size
    parts = divided(total, ranks, units)
    if parts is None:
        assert ranks > min(units) * 0 + total or ranks > groups
        return
    assert (parts.mask.sum(axis=0) == 1).all() and parts.mask.any(axis=1).all()
    by_heads = factors(parts.mask, [groups * heads, size])
    if ranks <= groups * heads:
        assert by_heads is not None and by_heads[1].all()
    if ranks <= groups:
        by_groups = factors(parts.mask, [groups, heads * size])
        assert by_groups is not None and by_groups[1].all()
    assert parts.ranges() is not None


@LAWS
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.randoms())
def test_axes_come_apart_as_they_were_joined(sizes: list[int], ranks: int, random: object) -> None:
    generator = np.random.default_rng(random.randrange(1 << 30))  # type: ignore[attr-defined]
    masks = [generator.random((ranks, size)) < 0.7 for size in sizes]
    for mask in masks:
        mask[:, 0] = True
    found = factors(flattened(masks), sizes)
    assert found is not None
    assert all((mine == theirs).all() for mine, theirs in zip(found, masks, strict=True))


def test_what_is_joined_has_all() -> None:
    one, other = (Layout.of({1: Parts.of(np.eye(3, dtype=bool) | row)}) for row in (False, True))
    first = Layout.of({1: Parts.of(np.array([[True, False, False], [False, True, False]]))})
    second = Layout.of({1: Parts.of(np.array([[False, False, True], [False, False, True]]))})
    both = joined(first, second)
    assert both[1] is not None and both[1].mask.tolist() == [
        [True, False, True],
        [False, True, True],
    ]
    assert joined(first, WHOLE) == WHOLE and joined(one, one) == one and not other
    taken = positions(both, second, 1, 0, 3)
    assert taken is not None and taken.tolist() == [1]


@LAWS
@given(st.integers(0, 40), st.integers(1, 5))
def test_slices_cover_all_elements(count: int, ranks: int) -> None:
    found = [range(count)[slice_of(count, rank, ranks)] for rank in range(ranks)]
    assert [item for part in found for item in part] == list(range(count))


def test_sums_are_in_the_order_of_ranks() -> None:
    arrays = [np.array([1e8, 1.0], np.float32), np.array([1.0, 1e8], np.float32),
              np.array([-1e8, -1e8], np.float32)]  # fmt: skip
    out = np.empty(2, np.float32)
    summed(arrays, out)
    assert (out == (arrays[0] + arrays[1]) + arrays[2]).all()
    halves = [np.full(1, 2048, np.float16)] + [np.ones(1, np.float16)] * 4
    short = np.empty(1, np.float16)
    summed(halves, short)
    assert short[0] == 2052  # added one by one in half precision it stays 2048


@LAWS
@given(st.integers(1, 4), st.integers(0, 9), st.integers(1, 3))
def test_threads_meet(ranks: int, size: int, rounds: int) -> None:
    table = Table(ranks)
    given_ = np.random.default_rng(size).standard_normal((rounds, ranks, size)).astype(np.float32)
    found: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def work(rank: int) -> None:
        seat = table.seat(rank)
        for turn in range(rounds):
            mine = given_[turn, rank]
            whole = seat.gather(mine, 0, [size] * ranks)
            found[turn, rank] = seat.add(mine), whole

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for turn in range(rounds):
        total = given_[turn, 0].copy()
        for rank in range(1, ranks):
            total = total + given_[turn, rank]
        for rank in range(ranks):
            assert (found[turn, rank][0] == total).all()
            assert (found[turn, rank][1] == given_[turn].reshape(-1)).all()
