"""Precision, low rank and pruning under one goal: what was tried, kept and taken.

The order is that of `search_order`. Each outcome goes into the tuning record as soon as it is
known, so that an interrupted search goes on where it was, and the same record gives the same
choice. The result that was the best so far is kept on disk; what else is to be written, and was
found by an earlier search, is compiled again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.driver import pruning, tries
from burnish.driver.candidate import Candidate
from burnish.driver.contenders import Contender, Contenders
from burnish.driver.precisions import may_stand
from burnish.driver.request import PRECISIONS, Request
from burnish.driver.search_order import NOTHING, OUT, STANDS, Outcome, Point, best, front, walk
from burnish.driver.tries import lacking
from burnish.driver.workbench import Emit, open_model
from burnish.optimizer import tuner
from burnish.optimizer.errors import BurnishError
from burnish.passes.compress.pruning.prune import surveys
from burnish.runtimes.providers import version


def compile_best(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks, by the best of several ways; JSON schema 1."""
    return _Search.compile(argument, emit)


class _Search(Contenders):
    """Tries points in order, and holds on to the best of them."""

    what = "point"
    first = Point().name

    def __init__(
        self, request: Request, folder: Path, emit: Emit, stack: contextlib.ExitStack
    ) -> None:
        super().__init__(request, folder, emit, stack)
        self.outcomes: dict[Point, Outcome] = {}
        self._points: dict[str, Point] = {}
        self._held: dict[Point, tuple[Contender, contextlib.ExitStack]] = {}
        self._surveys: dict[Hashable, Any] = {}
        self._untimed = False

    def run(self) -> dict[str, Any]:
        key, memory = self._remembered()
        goal, provider = self.request.speedup, self.request.provider
        names = [name for name in PRECISIONS if not may_stand(self.request, name)]
        steps = walk(names, goal)
        point = next(steps)
        with contextlib.suppress(StopIteration):
            while not self._untimed:
                told = f"{key}: {point.name}"
                outcome = tries.recalled(memory, told) or self._tried(point, memory, told)
                self.outcomes[point] = outcome
                self._hold(self._wanted())
                point = steps.send(outcome)
        memory.close()
        chosen, winner = self._picked()
        if self._untimed:
            self.warnings.append(f"nothing was searched for on {provider}: it was not timed")
        winner.compilation.bench.warnings += self.warnings
        result = winner.compilation.finish(winner.candidate)
        if self._untimed:
            return result
        return result | {
            "points": self._rows(chosen),
            "search": tries.facts(self.request, self.outcomes, chosen),
        }

    def changed(self, name: str) -> Request:
        point = self._points[name]
        wanted: dict[str, Any] = {option: option == point.precision for option in PRECISIONS}
        return replace(
            self.request,
            auto_precision=False,
            points=False,
            speedup=None,
            prune=f"{point.share:g}" if point.share else None,
            low_rank=point.low_rank,
            output=str(self.request.target),
            **wanted,
        )

    def why_not(self, candidate: Candidate) -> str:
        return ""  # what a point lacks depends on the point: `lacking`

    def _remembered(self) -> tuple[str, tuner.Tuner]:
        """What outcomes are recorded under, and the record."""
        plain = replace(self.request, auto_precision=False, prune=None)
        with open_model(plain, self.emit, self.folder) as bench:
            there = f"{self.request.provider} {version(self.request.provider)}"
            return f"{self._key(bench)} {tries.given(self.request)}", self._memory(bench, there)

    def _tried(self, point: Point, memory: tuner.Tuner, key: str) -> Outcome:
        """What comes of a point, which is recorded where another try would give the same."""
        outcome, lasting = self._compiled(point)
        return tries.recorded(memory, key, outcome) if lasting else outcome

    def _compiled(self, point: Point) -> tuple[Outcome, bool]:
        """Compile a point, and hold what stands; whether the outcome may be recorded."""
        stack = contextlib.ExitStack()
        self._stack.callback(stack.close)
        stack.callback(shutil.rmtree, self.folder / point.name, ignore_errors=True)
        self._points[point.name] = point
        compilation = self._compilation(point.name, stack)
        compilation.pruning.exact = True
        compilation.bench.memo |= self._surveys
        lasting = True
        try:
            candidate = compilation.prepare()
            reason = lacking(point, candidate.compiled)
        except BurnishError as error:
            if point == Point():
                raise
            lasting, reason = isinstance(error, pruning.TooMuch), error.message
            if isinstance(error, pruning.NothingGoes):
                return Outcome(NOTHING, reason=reason), lasting
        finally:
            self._surveys |= surveys(compilation.bench.memo)
        if reason:
            stack.close()
            return Outcome(OUT, reason=reason), lasting
        self._held[point] = Contender(compilation, candidate), stack
        self._untimed = bool(compilation.bench.untimed)
        return tries.outcome_of(candidate, compilation.original), not self._untimed

    def _wanted(self) -> set[Point]:
        """Points whose files will be written, as far as that is known."""
        taken = {best(self.outcomes, self.request.speedup)}
        return taken | (front(self.outcomes) if self.request.points else set())

    def _hold(self, wanted: Collection[Point]) -> None:
        """Let go of what will not be written."""
        for point in [item for item in self._held if item not in wanted]:
            self._held.pop(point)[1].close()

    def _picked(self) -> tuple[Point, Contender]:
        """The best, compiled again where an earlier search had found it."""
        while True:
            point = best(self.outcomes, self.request.speedup)
            if item := self._ready(point):
                return point, item

    def _ready(self, point: Point) -> Contender | None:
        """A point that can be written; None, and an outcome that says so, where it is none now."""
        if point not in self._held:
            outcome, _ = self._compiled(point)
            if outcome.status != STANDS:
                self.outcomes[point] = outcome
                return None
        return self._held[point][0]

    def _rows(self, chosen: Point) -> list[dict[str, Any]]:
        """The report's `points`; what is asked for of them is written."""
        target = self.request.target
        rows = []
        for point in sorted(self.outcomes, key=lambda item: -self.outcomes[item].speedup):
            listed = point in front(self.outcomes)
            row = tries.row(point, self.outcomes[point])
            row |= {"chosen": point == chosen, "pareto": listed, "path": None}
            if point == chosen:
                row["path"] = str(target)
            elif self.request.points and listed and (item := self._ready(point)):
                named = target.with_name(f"{target.stem}.{point.name}.onnx")
                if not self.request.dry_run:
                    item.compilation.write_also(item.candidate, named)
                row["path"] = str(named)
            rows.append(row)
        return rows
