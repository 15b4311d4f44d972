"""Results of several compilations of one model, of which the fastest is taken."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from burnish.driver import vocabulary
from burnish.driver.candidate import Candidate
from burnish.driver.compilation import TIMING_SECONDS, Compilation
from burnish.driver.request import Request, request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import tuner
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.measure import Entrant, Timing

OPTIONS = (
    "precision", "static", "kv_cache", "window", "global_tokens", "layers", "fast_gelu", "low_rank",
    "prune", "importance", "sparsity", "mask", "sparse_storage",
    "keep_embeddings", "level", "max_drop", "opset", "min_ort", "force", "pack", "data", "provider",
)  # fmt: skip
"""What of a request, besides the model and its sizes, decides which result is fastest."""


@dataclass(frozen=True)
class Contender:
    """A compilation, and what is ready to be published of it."""

    compilation: Compilation
    candidate: Candidate


class Contenders(abc.ABC):
    """Compiles in several ways; remembers, and else times, which result is the fastest.

    Subclasses say what differs; see their `run`.

    Attributes:
        what: what is chosen among, in the report's words.
        first: the name that the others are compared with, and that always stands.
        survivable: failures of a compilation after which the others go on.
        reasons: why a name does not stand, or was not timed.
        timings: of all but the first against the first, where they were timed.
        warnings: what the report should say besides.
    """

    what: ClassVar[str]
    first: ClassVar[str]
    survivable: ClassVar[tuple[type[BurnishError], ...]] = (BurnishError,)

    def __init__(
        self, request: Request, folder: Path, emit: Emit, stack: contextlib.ExitStack
    ) -> None:
        self.request = request
        self.folder = folder
        self.emit = emit
        self.reasons: dict[str, str] = {}
        self.timings: dict[str, Timing] = {}
        self.warnings: list[str] = []
        self._stack = stack

    @classmethod
    def compile(cls, argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Do what the request (as a dict) asks, in the fastest way; JSON schema 1."""
        request = request_from(argument)
        with contextlib.ExitStack() as stack:
            return cls(request, Path(argument["staging"]), emit, stack).run()

    @abc.abstractmethod
    def run(self) -> dict[str, Any]:
        """Choose and publish; the report."""

    @abc.abstractmethod
    def changed(self, name: str) -> Request:
        """The request for one of the ways."""

    @abc.abstractmethod
    def why_not(self, candidate: Candidate) -> str:
        """Why a result, other than the first, cannot be chosen; empty where it can."""

    def decide(self, names: list[str], there: str) -> tuple[Choice, dict[str, Contender]]:
        """The choice among the names, and what stands; `there` names runtimes and versions."""
        first = self._compilation(self.first)
        key = self._key(first.bench)
        with self._memory(first.bench, there) as memory:
            known = None if self.request.points else memory.recall(key, names)
            standing = self._standing([known.winner] if known else names, first)
            choice = known if known and known.winner in standing else None
            choice = choice or self.choose(standing, f"timing the {self.what}s")
            if choice.measured and choice is not known:
                choice = memory.remember(key, choice, standing)
        if choice is known:
            self.reasons |= dict.fromkeys(names, "not timed again: the tuning record has a choice")
        standing[choice.winner].compilation.bench.warnings += self.warnings
        return choice, standing

    def _compilation(self, name: str, stack: contextlib.ExitStack | None = None) -> Compilation:
        """The compilation of one of the ways, on a workbench of its own, which `stack` closes."""
        folder = self.folder / name
        folder.mkdir()

        def emit(event: dict[str, Any]) -> None:
            self.emit(event | ({"stage": f"{name}: {event['stage']}"} if "stage" in event else {}))

        bench = (stack or self._stack).enter_context(open_model(self.changed(name), emit, folder))
        return Compilation(bench, folder)

    def _standing(self, names: list[str], first: Compilation) -> dict[str, Contender]:
        """Those of the names that can be chosen; the first where none can."""
        found: dict[str, Contender] = {}
        for name in names:
            compilation = first if name == self.first else self._compilation(name)
            try:
                candidate = compilation.prepare()
            except self.survivable as error:
                if name == self.first:
                    raise
                self.reasons[name] = error.message
                continue
            if name != self.first and (reason := self.why_not(candidate)):
                self.reasons[name] = reason
                continue
            found[name] = Contender(compilation, candidate)
        return found or self._standing([self.first], first)

    def _key(self, bench: Workbench) -> str:
        """What the choice is recorded under."""
        options = [f"{name}={getattr(bench.request, name)}" for name in OPTIONS]
        options += filter(None, [vocabulary.digest(self.request)])
        sizes = ",".join(f"{name}={size}" for name, size in sorted(bench.sizes().items()))
        return f"{self.what} of {bench.loaded.sha256} {sizes} {' '.join(options)}"

    def _memory(self, bench: Workbench, there: str) -> tuner.Tuner:
        """The tuning record."""
        request = self.request
        record = Path(request.tuning) if request.tuning else tuner.default_record()
        return tuner.Tuner(
            None,
            bench.executor,
            record if request.measure or request.tuning else None,
            f"{tuner.processor()[0]}, {request.threads_used} threads, {there}",
            replay=request.tuning is not None,
            warn=self.warnings.append,
        )

    def choose(self, standing: Mapping[str, Contender], emit: str) -> Choice:
        """The fastest, surely faster than the first; the first where nothing can be timed."""
        names = list(standing)
        bench = standing[names[0]].compilation.bench
        if len(names) == 1:
            return Choice(names[0], 1.0, measured=False)
        if bench.untimed or not self.request.measure:
            self.warnings.append(f"{self.what} {names[0]} was taken untimed: nothing was measured")
            return Choice(names[0], 1.0, measured=False)
        bench.emit({"stage": emit})
        feed, entrants = bench.timing_feed(), {}
        for name, item in standing.items():
            provider = item.compilation.request.provider
            path = item.candidate.files[0].absolute()
            same = item.candidate.compiled.ports.given(feed)
            entrants[name] = Entrant(path, bench.executor.store([same])[0], provider)
        with bench.contest() as contest:
            self.timings = contest.compare(entrants, TIMING_SECONDS)
        sure = {name: item for name, item in self.timings.items() if item.low > 1.0}
        winner = max(sure, key=lambda name: sure[name].speedup, default=names[0])
        gain = sure[winner].speedup if winner in sure else 1.0
        return Choice(winner, round(gain, 3), measured=True)

    def facts(self, name: str) -> dict[str, Any]:
        """`ms`, `ratio` and `ci95` of a result, for the report; null where it was not timed."""
        timing = self.timings.get(name)
        if timing is not None:
            return {
                "ms": round(timing.candidate_ms, 3),
                "ratio": round(timing.speedup, 3),
                "ci95": [round(timing.low, 3), round(timing.high, 3)],
            }
        if self.timings and name == self.first:
            base = next(iter(self.timings.values())).baseline_ms
            return {"ms": round(base, 3), "ratio": 1.0, "ci95": None}
        return {"ms": None, "ratio": None, "ci95": None}
