"""In which order a search tries its points, with made-up outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from burnish.driver.search_order import (
    NOTHING,
    OUT,
    SHARES,
    STANDS,
    Outcome,
    Point,
    best,
    front,
    walk,
)

PRECISIONS = ("int8", "int4")


class World:
    """A model that is foretold: speed-ups and losses of whole layers, and what pruning adds.

    A share s makes a way 1 / (1 - s) times as fast, and loses s * s more.
    """

    def __init__(self, budget: float = 0.05, **whole: tuple[float, float]) -> None:
        self.budget = budget
        self.whole = {"fp32": (1.1, 0.0), "int8": (2.0, 0.004), "int4": (1.0, 0.02)} | whole
        self.low_rank = 0.0
        self.sites = True

    def __call__(self, point: Point) -> Outcome:
        speed, drop = self.whole[point.precision]
        if point.low_rank:
            if not self.low_rank:
                return Outcome(OUT, reason="it changes nothing")
            speed, drop = speed * self.low_rank, drop + 0.005
        if point.share and not self.sites:
            return Outcome(NOTHING, reason="no heads")
        drop += point.share**2
        if drop > self.budget:
            return Outcome(OUT, reason=f"it loses {drop:.3f}")
        return Outcome(STANDS, speed / (1 - point.share), drop, {"bytes": 100})


def searched(
    world: World, goal: float | None, known: dict[Point, Outcome] | None = None, most: int = 99
) -> tuple[list[Point], dict[Point, Outcome]]:
    """What was tried anew, and all that is known; an end after so many tries."""
    tried, found, steps = [], dict[Point, Outcome](), walk(PRECISIONS, goal)
    point = next(steps)
    while True:
        if known is not None and point in known:
            found[point] = replace(known[point], known=True)
        elif len(tried) == most:
            return tried, found
        else:
            tried.append(point)
            found[point] = world(point)
        try:
            point = steps.send(found[point])
        except StopIteration:
            return tried, found


def test_what_reaches_the_goal_without_loss_is_all_that_is_tried() -> None:
    tried, known = searched(World(), 1.05)
    assert tried == [Point()]
    assert best(known, 1.05) == Point()


def test_nothing_is_pruned_where_a_precision_reaches_the_goal() -> None:
    world = World(int4=(3.0, 0.003))
    tried, known = searched(world, 1.9)
    assert tried == [Point(), Point("int8"), Point("int4")]
    assert best(known, 1.9) == Point("int4")  # both are fast enough, and this one loses less


def test_the_least_share_that_reaches_the_goal() -> None:
    tried, known = searched(World(), 2.2)
    assert best(known, 2.2) == Point("int8", share=0.1)
    assert Point("int8", share=0.05) in tried  # which does not: that is how it is known
    assert len([point for point in tried if point.share]) < len(SHARES) / 2
    # In float32 half of the layers would have to go, which loses more: one try tells.
    pruned = [point for point in tried if point.share and point.precision == "fp32"]
    assert pruned == [Point(share=0.5)]


def test_a_slower_way_is_taken_where_it_loses_less() -> None:
    world = World(budget=0.5, int8=(1.5, 0.2))
    _, known = searched(world, 1.6)
    # 0.10 on top of int8 loses 0.21; 0.35 in float32 loses 0.12.
    assert 1.1 / (1 - 0.3) < 1.6 < 1.1 / (1 - 0.35)
    assert known[Point("int8", share=0.1)].stands
    assert best(known, 1.6) == Point(share=0.35)


def test_where_the_goal_is_out_of_reach_the_fastest_within_the_budget_is_taken() -> None:
    _, known = searched(World(), 10.0)
    taken = best(known, 10.0)
    assert taken == Point("int8", share=0.2)
    assert known[Point("int8", share=0.25)].status == OUT
    assert max(item.speedup for item in known.values() if item.stands) == known[taken].speedup


def test_without_a_speedup_the_fastest_within_the_budget_is_searched_for() -> None:
    tried, known = searched(World(), None)
    assert best(known, None) == Point("int8", share=0.2)
    assert {point.precision for point in tried} == {"fp32", *PRECISIONS}


def test_low_rank_is_tried_with_a_precision_only_where_it_gains() -> None:
    world = World()
    tried, _ = searched(world, 3.0)
    assert Point(low_rank=True) in tried
    assert Point("int8", low_rank=True) not in tried
    world.low_rank = 1.6
    tried, known = searched(world, 3.0)
    assert best(known, 3.0) == Point("int8", low_rank=True)
    assert not any(point.share for point in tried)


def test_ways_that_another_one_beats_are_not_pruned() -> None:
    tried, _ = searched(World(), 10.0)
    assert not any(point.share and point.precision == "int4" for point in tried)


def test_where_nothing_can_be_pruned_one_try_says_so() -> None:
    world = World()
    world.sites = False
    tried, known = searched(world, 10.0)
    assert sum(bool(point.share) for point in tried) == 1
    assert best(known, 10.0) == Point("int8")


@pytest.mark.parametrize("goal", [None, 2.2, 10.0])
def test_an_interrupted_search_goes_on_and_ends_the_same(goal: float | None) -> None:
    whole, known = searched(World(), goal)
    for most in range(1, len(whole)):
        before, so_far = searched(World(), goal, most=most)
        after, found = searched(World(), goal, so_far)
        assert before + after == whole
        assert best(found, goal) == best(known, goal)
        assert list(found) == list(known)
    assert searched(World(), goal, known)[0] == []


def test_of_equals_the_first_is_taken() -> None:
    same = Outcome(STANDS, 2.0, 0.01, {"bytes": 10})
    known = {Point(): same, Point("int8"): same, Point("int4"): same}
    assert best(known, 1.5) == best(known, 3.0) == best(known, None) == Point()
    assert front(known) == {*known}


def test_the_pareto_list() -> None:
    def outcome(speedup: float, drop: float, size: int) -> Outcome:
        return Outcome(STANDS, speedup, drop, {"bytes": size})

    known = {
        Point(): outcome(1.0, 0.0, 100),
        Point("int8"): outcome(2.0, 0.01, 25),
        Point("int4"): outcome(1.5, 0.02, 12),
        Point("int8", share=0.1): outcome(1.9, 0.02, 24),
        Point("fp16"): outcome(1.9, 0.02, 50),
        Point("int8", share=0.5): Outcome(OUT),
    }
    assert front(known) == {*known} - {Point("fp16"), Point("int8", share=0.5)}


@pytest.mark.parametrize(
    ("point", "name", "options"),
    [
        (Point(), "fp32", ""),
        (Point("int8_weights"), "int8-weights", "--precision int8-weights"),
        (
            Point("int8", low_rank=True, share=0.3),
            "int8-low-rank-prune-0.30",
            "--precision int8 --low-rank --prune 0.3",
        ),
    ],
)
def test_what_points_are_called(point: Point, name: str, options: str) -> None:
    assert (point.name, point.options) == (name, options)
