"""Goals that one search over precision, low rank and pruning is to reach, and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.driver.prunable import AUTO_PRUNE, LEAST_LEVEL
from burnish.optimizer.errors import UsageError
from burnish.runtimes.providers import AUTO
from burnish.runtimes.targets import NATIVE

if TYPE_CHECKING:
    from burnish.driver.request import Request


def searches(request: Request) -> bool:
    """Whether precision, low rank and pruning are to be searched together.

    Where all of it is asked for by name, or where a speed-up is and nothing else says how to get
    it. What loses needs data to be found and judged with.
    """
    if request.auto_precision and request.prune == AUTO_PRUNE:
        return True
    named = request.precision or request.auto_precision or request.prune or request.low_rank
    able = request.check and request.measure and request.level >= LEAST_LEVEL
    here = request.provider != AUTO and request.target_cpu == NATIVE
    return bool(request.speedup and request.data and not named and able and here)


def validate(request: Request) -> None:
    """Raise where options of a search, or beside one, contradict it."""
    if request.points and not (request.auto_precision or searches(request)):
        raise UsageError("--points are those of --precision auto", hint="--speedup 2 --data FILE")
    if request.auto_precision and request.prune == AUTO_PRUNE and not request.measure:
        raise UsageError("--prune auto --precision auto needs the times that --no-measure skips")
    if request.auto_precision and request.low_rank and request.prune == AUTO_PRUNE:
        raise UsageError("--prune auto --precision auto tries low rank by itself")


def missed(search: dict[str, Any]) -> str:
    """The goal that a search did not reach, and what bound it; empty where it did."""
    if search["met"] is not False:
        return ""
    return (
        f"--speedup {search['speedup']:g} is not met: {search['reached']:.2f} is the most within "
        f"--max-drop {search['max_drop']:g} ({search['chosen']}); {search['bound']}"
    )
