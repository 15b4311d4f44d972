"""In which order a search tries precision, low rank and pruning, and which result it takes.

Nothing is compiled here: `walk` says what to try next from what came of the tries before, and from
nothing else. So a search that was interrupted goes the same way again over what is known of it.

1. Nothing but lossless passes (`fp32`). Where that reaches the speed-up, nothing loses less.
2. Each precision, then low rank, with the whole layers. Where some reach the speed-up, the one
   that loses least is taken: to prune costs more than bits.
3. Else shares of the layers are pruned, on top of the fastest of these ways first. The least share
   that reaches the speed-up is found by halving, and none is tried beyond one that loses too much.
   A slower way needs no smaller share, and is of use only where it loses less than the best so
   far: its least share that may do is tried first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

FLOAT = "fp32"
"""The precision that is none."""

SHARES = tuple(round(0.05 * step, 2) for step in range(1, 19))
"""Shares of the layers' operations that may go, the least first."""

STANDS, OUT, NOTHING = "stands", "out", "nothing to prune"
"""What may come of a try: a result within the budget, none, or none with any share."""


@dataclass(frozen=True)
class Point:
    """One way to compile.

    Attributes:
        precision: one of `request.PRECISIONS`, or `FLOAT`.
        low_rank: whether weights may become products of two.
        share: of the layers' operations that goes; 0 for none.
    """

    precision: str = FLOAT
    low_rank: bool = False
    share: float = 0.0

    @property
    def name(self) -> str:
        """What reports and files call it."""
        parts = [self.precision.replace("_", "-"), "low-rank" if self.low_rank else ""]
        return "-".join(filter(None, [*parts, f"prune-{self.share:.2f}" if self.share else ""]))

    @property
    def options(self) -> str:
        """The options that compile it alone."""
        precise = f"--precision {self.precision.replace('_', '-')}"
        return " ".join(
            filter(
                None,
                [
                    precise if self.precision != FLOAT else "",
                    "--low-rank" if self.low_rank else "",
                    f"--prune {self.share:g}" if self.share else "",
                ],
            )
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a point.

    Attributes:
        status: `STANDS`, `OUT` or `NOTHING`.
        speedup: over the input, in stock sessions; 1 where nothing was changed.
        drop: loss; 0 where it does not stand.
        facts: `bytes`, `ms` and `ci95`, for the report.
        reason: why it does not stand.
        known: whether an earlier search had found it.
    """

    status: str
    speedup: float = 0.0
    drop: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reason: str = ""
    known: bool = False

    @property
    def stands(self) -> bool:
        """Whether it may be taken."""
        return self.status == STANDS


Known = Mapping[Point, Outcome]
Walk = Generator[Point, Outcome, None]


def walk(precisions: Sequence[str], goal: float | None) -> Walk:
    """The points to try; each is answered with what came of it.

    Args:
        precisions: besides `FLOAT`, those that may gain.
        goal: the speed-up to reach; None for the fastest within the budget.
    """
    known: dict[Point, Outcome] = {}
    yield from _tried([Point()], known)
    if reached(known, goal):
        return
    yield from _tried([Point(name) for name in precisions], known)
    if reached(known, goal):
        return
    yield from _low_rank(known)
    if reached(known, goal):
        return
    for way in _ways(known):
        yield from _halved(way, known, goal)
        if any(outcome.status == NOTHING for outcome in known.values()):
            return


def _tried(points: Iterable[Point], known: dict[Point, Outcome]) -> Walk:
    for point in points:
        known[point] = yield point


def _low_rank(known: dict[Point, Outcome]) -> Walk:
    """Low rank by itself; where it gains, also in the fastest of the precisions."""
    alone = Point(low_rank=True)
    yield from _tried([alone], known)
    fastest = best(known, None)
    if known[alone].stands and not fastest.low_rank and fastest != Point():
        yield from _tried([replace(fastest, low_rank=True)], known)


def _ways(known: Known) -> list[Point]:
    """The points with whole layers that none is both as fast and as close as, the fastest first."""
    found = _undominated(known, lambda item: (-item.speedup, item.drop))
    return sorted(found, key=lambda point: -known[point].speedup)


def _halved(way: Point, known: dict[Point, Outcome], goal: float | None) -> Walk:
    """Shares on top of a way: the least that reaches the goal, else the most within the budget.

    Where another way reaches it, the least that may is tried first: it tells whether to go on.
    """
    low, high = _start(known[way], known, goal), len(SHARES)
    middle = low if reached(known, goal) else (low + high) // 2
    while low < high:
        point = replace(way, share=SHARES[middle])
        limit = _limit(known, goal)
        yield from _tried([point], known)
        found = known[point]
        if found.status == NOTHING:
            return
        far = not found.stands or (limit is not None and found.drop >= limit)
        if far or (goal is not None and found.speedup >= goal):
            high = middle
        else:
            low = middle + 1
        middle = (low + high) // 2


def _start(whole: Outcome, known: Known, goal: float | None) -> int:
    """The least share that may reach the goal, where another way reaches it.

    A share s makes a way no more than 1 / (1 - s) times as fast; a slower way needs no less than a
    faster one.
    """
    if goal is None or not reached(known, goal):
        return 0
    least = max(best(known, goal).share, 1.0 - whole.speedup / goal)
    return next((i for i, share in enumerate(SHARES) if share >= least), len(SHARES))


def _limit(known: Known, goal: float | None) -> float | None:
    """The loss from which on a result is of no use: that of one which reaches the goal."""
    return known[best(known, goal)].drop if reached(known, goal) else None


def reached(known: Known, goal: float | None) -> bool:
    """Whether one of them is as fast as is asked for."""
    return goal is not None and any(
        outcome.stands and outcome.speedup >= goal for outcome in known.values()
    )


def best(known: Known, goal: float | None) -> Point:
    """What is taken: of those that reach the goal the closest to the input, else the fastest.

    Of equals the first that was tried. `Point()` where none stands.
    """
    standing = {point: outcome for point, outcome in known.items() if outcome.stands}
    fast = {
        point: outcome
        for point, outcome in standing.items()
        if goal is not None and outcome.speedup >= goal
    }
    if fast:
        return min(fast, key=lambda point: (fast[point].drop, -fast[point].speedup))
    return min(
        standing,
        key=lambda point: (-standing[point].speedup, standing[point].drop),
        default=Point(),
    )


def front(known: Known) -> set[Point]:
    """The Pareto list: none is as fast, as small and as close as one of it, and better in one."""
    return {
        *_undominated(known, lambda item: (-item.speedup, item.facts.get("bytes", 0), item.drop))
    }


def _undominated(known: Known, costs_of: Callable[[Outcome], tuple[float, ...]]) -> list[Point]:
    """The points that stand and that no other is nowhere dearer than, in the order of `known`."""
    standing = {point: costs_of(item) for point, item in known.items() if item.stands}
    return [
        point
        for point, costs in standing.items()
        if not any(
            other != costs and all(a <= b for a, b in zip(other, costs, strict=True))
            for other in standing.values()
        )
    ]
