"""Results of several compilations of one model, of which the fastest is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.driver.candidate import Candidate
from burnish.driver.compilation import TIMING_SECONDS, Compilation
from burnish.driver.request import Request
from burnish.driver.workbench import Workbench
from burnish.optimizer import tuner
from burnish.optimizer.contract import Choice
from burnish.optimizer.measure import Entrant, Timing

OPTIONS = (
    "precision", "fast_gelu", "keep_embeddings", "level", "max_drop", "opset", "min_ort", "force",
    "pack", "data", "provider",
)  # fmt: skip
"""What of a request, besides the model and its sizes, decides which result is fastest."""


@dataclass(frozen=True)
class Contender:
    """A compilation, and what is ready to be published of it."""

    compilation: Compilation
    candidate: Candidate


class Contenders:
    """Remembers, and else times, which of several results is the fastest.

    Attributes:
        timings: of all but the first against the first, where they were timed.
        warnings: what the report should say besides.
    """

    def __init__(self, request: Request, what: str) -> None:
        self._request = request
        self._what = what
        self.timings: dict[str, Timing] = {}
        self.warnings: list[str] = []

    def key(self, bench: Workbench) -> str:
        """What the choice is recorded under."""
        options = [f"{name}={getattr(self._request, name)}" for name in OPTIONS]
        sizes = ",".join(f"{name}={size}" for name, size in sorted(bench.sizes().items()))
        return f"{self._what} of {bench.loaded.sha256} {sizes} {' '.join(options)}"

    def memory(self, bench: Workbench, there: str) -> tuner.Tuner:
        """The tuning record; `there` names the runtimes and their versions."""
        request = self._request
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
        if bench.untimed or not self._request.measure:
            self.warnings.append(f"{self._what} {names[0]} was taken untimed: nothing was measured")
            return Choice(names[0], 1.0, measured=False)
        bench.emit({"stage": emit})
        feed = bench.executor.store([bench.timing_feed()])[0]
        entrants = {}
        for name, item in standing.items():
            provider = item.compilation.request.provider
            path = item.candidate.files[0].absolute()
            entrants[name] = Entrant(path, feed, provider)
        with bench.contest() as contest:
            self.timings = contest.compare(entrants, TIMING_SECONDS)
        sure = {name: item for name, item in self.timings.items() if item.low > 1.0}
        winner = max(sure, key=lambda name: sure[name].speedup, default=names[0])
        gain = sure[winner].speedup if winner in sure else 1.0
        return Choice(winner, round(gain, 3), measured=True)

    def facts(self, name: str, first: str) -> dict[str, Any]:
        """`ms`, `ratio` and `ci95` of a result, for the report; null where it was not timed."""
        timing = self.timings.get(name)
        if timing is not None:
            return {
                "ms": round(timing.candidate_ms, 3),
                "ratio": round(timing.speedup, 3),
                "ci95": [round(timing.low, 3), round(timing.high, 3)],
            }
        if self.timings and name == first:
            base = next(iter(self.timings.values())).baseline_ms
            return {"ms": round(base, 3), "ratio": 1.0, "ci95": None}
        return {"ms": None, "ratio": None, "ci95": None}
