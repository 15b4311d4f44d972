"""What came of the points of a search, as the tuning record and the report have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.driver.candidate import Candidate
from burnish.driver.request import Request
from burnish.driver.search_order import (
    FLOAT,
    NOTHING,
    OUT,
    SHARES,
    STANDS,
    Known,
    Outcome,
    Point,
    reached,
)
from burnish.optimizer.contract import Choice, Pass
from burnish.optimizer.digests import digest_file
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.tuner import Tuner
from burnish.passes.compress.blockwise.weight_only import WeightOnly
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.int8.qdq import StaticInt8
from burnish.passes.compress.low_rank.low_rank import LowRank
from burnish.passes.compress.pruning.prune import Prune
from burnish.passes.lower.half.half_precision import HalfPrecision

STATUSES = (STANDS, OUT, NOTHING)

PRECISE = (DynamicInt8, StaticInt8, WeightOnly, HalfPrecision)
"""Passes that a precision asks for."""


def given(request: Request) -> str:
    """The data by its content, and the seed: what outcomes depend on besides the options."""
    data = Path(request.data or "")
    files = sorted(file for file in data.rglob("*") if file.is_file()) if data.is_dir() else [data]
    return f"seed={request.seed} content={digest_file(*files)[:16]}"


def outcome_of(candidate: Candidate, original: ir.Model) -> Outcome:
    """Of a result within the budget; what is the input still is as fast as that."""
    timing, fidelity = candidate.timing, candidate.fidelity
    facts: dict[str, Any] = {"bytes": sum(file.stat().st_size for file in candidate.files)}
    facts |= {"ms": None, "ci95": None}
    speedup = 1.0 if candidate.compiled.model is original else 0.0
    if timing is not None:
        speedup = round(timing.speedup, 4)
        ends = [round(timing.low, 4), round(timing.high, 4)]
        facts |= {"ms": round(timing.candidate_ms, 3), "ci95": ends}
    return Outcome(STANDS, speedup, fidelity.drop if fidelity is not None else 0.0, facts)


def lacking(point: Point, compiled: Compiled) -> str:
    """Why a result is not the point that it was compiled for; empty where it is."""
    wanted: list[tuple[type[Pass], ...]] = [
        *([(Prune,)] if point.share else []),
        *([(LowRank,)] if point.low_rank else []),
        *([PRECISE] if point.precision != FLOAT else []),
    ]
    for kinds in wanted:
        steps = [step for step in compiled.steps if isinstance(step.transform, kinds)]
        if not any(step.status == "kept" for step in steps):
            reasons = (step.reason or step.outcome.detail for step in steps)
            return next(filter(None, reasons), "it changes nothing")
    return ""


def recorded(memory: Tuner, key: str, outcome: Outcome) -> Outcome:
    """Keep an outcome; what stands, which another process may have recorded."""
    facts = {**outcome.facts, "drop": outcome.drop, "reason": outcome.reason}
    choice = Choice(outcome.status, outcome.speedup, measured=True, facts=facts)
    return _outcome(memory.remember(key, choice, STATUSES), known=False) or outcome


def recalled(memory: Tuner, key: str) -> Outcome | None:
    """What an earlier search has found of a point."""
    choice = memory.recall(key, STATUSES)
    return _outcome(choice, known=True) if choice is not None else None


def _outcome(choice: Choice, *, known: bool) -> Outcome | None:
    """An outcome from the record; None where somebody has changed it."""
    facts = dict(choice.facts)
    drop, reason = facts.pop("drop", None), facts.pop("reason", "")
    if not isinstance(drop, int | float):
        return None
    return Outcome(choice.winner, choice.speedup, drop, facts, str(reason), known)


def row(point: Point, outcome: Outcome) -> dict[str, Any]:
    """A row of the report's `points`, but for what became of it."""
    stands = outcome.stands
    return {
        "name": point.name,
        "precision": point.precision.replace("_", "-"),
        "low_rank": point.low_rank,
        "prune": point.share,
        "options": point.options,
        "drop": outcome.drop if stands else None,
        "bytes": outcome.facts.get("bytes"),
        "ms": outcome.facts.get("ms"),
        "ratio": outcome.speedup if stands else None,
        "ci95": outcome.facts.get("ci95"),
        "reason": outcome.reason,
        "known": outcome.known,
    }


def facts(request: Request, known: Known, chosen: Point) -> dict[str, Any]:
    """The report's `search`: the goals, whether they are met, and what bound them where not."""
    goal = request.speedup
    met = None if goal is None else reached(known, goal)
    return {
        "speedup": goal,
        "max_drop": request.max_drop,
        "met": met,
        "reached": known[chosen].speedup,
        "chosen": chosen.name,
        "bound": "" if met else _bound(known, chosen),
        "tried": len(known),
        "known": sum(outcome.known for outcome in known.values()),
    }


def _bound(known: Mapping[Point, Outcome], chosen: Point) -> str:
    """Why no more than this was reached."""
    if nothing := next((item for item in known.values() if item.status == NOTHING), None):
        return f"nothing can be pruned: {nothing.reason}"
    way = (chosen.precision, chosen.low_rank)
    further = {
        point.share: point
        for point, outcome in known.items()
        if outcome.status == OUT
        and (point.precision, point.low_rank) == way
        and point.share > chosen.share
    }
    if further:
        point = further[min(further)]
        return f"{point.name} is not within it: {known[point].reason}"
    return f"{SHARES[-1]:g} of the layers is the most that is pruned"
