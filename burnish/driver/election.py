"""`--provider auto`: a compilation for each provider that starts here; the fastest wins."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.driver.candidate import Candidate
from burnish.driver.compilation import TIMING_SECONDS, Compilation
from burnish.driver.net import tolerated
from burnish.driver.request import Request, request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import sandbox, tuner
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, UsageError
from burnish.optimizer.measure import Entrant, Timing
from burnish.runtimes.providers import CANDIDATES, PROVIDERS, REFERENCE, version

START = "burnish.runtimes.work:start"

OPTIONS = (
    "int8", "fast_gelu", "keep_embeddings", "level", "max_drop", "opset", "min_ort", "force",
    "pack", "data",
)  # fmt: skip
"""What of a request, besides the model and its sizes, decides which provider is fastest."""


@dataclass(frozen=True)
class Standing:
    """A provider that can be chosen: its compilation, and what is ready to be published."""

    compilation: Compilation
    candidate: Candidate


def compile_fastest(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks, on the fastest provider; JSON schema 1."""
    request = request_from(argument)
    with contextlib.ExitStack() as stack:
        return _Election(request, Path(argument["staging"]), emit, stack).run()


class _Election:
    """The steps of the choice; `reasons` holds why a provider does not stand, by its name."""

    def __init__(
        self, request: Request, folder: Path, emit: Emit, stack: contextlib.ExitStack
    ) -> None:
        self.request = request
        self.folder = folder
        self.emit = emit
        self.stack = stack
        self.reasons: dict[str, str] = {}
        self.timings: dict[str, Timing] = {}
        self.warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        names = [name for name in CANDIDATES if self._starts(name)]
        first = self._bench(REFERENCE)
        key = self._key(first)
        with self._memory(first, names) as memory:
            known = memory.recall(key, names)
            standing = self._compiled([known.winner] if known else names, first)
            choice = known if known and known.winner in standing else self._choose(standing)
            if choice.measured and choice is not known:
                memory.remember(key, choice)
        if choice is known:
            self.reasons |= dict.fromkeys(names, "not timed again: the tuning record has a choice")
        chosen = standing[choice.winner]
        chosen.compilation.bench.warnings += self.warnings
        return chosen.compilation.finish(chosen.candidate, self._table(choice))

    def _starts(self, name: str) -> bool:
        """Whether a provider may be compiled for, and starts here; the reference always does."""
        if self.request.int8 and not PROVIDERS[name].int8:
            self.reasons[name] = "int8 is refused there"
            return False
        if name == REFERENCE:
            return True
        self.emit({"stage": f"starting {name}"})
        argument = {"provider": name, "folder": str(self.folder)}
        try:
            sandbox.call(START, argument, self.request.limits)
        except BurnishError as error:  # a library that crashes when it starts is InvalidModel here
            self.reasons[name] = error.message
            return False
        return True

    def _bench(self, name: str) -> Workbench:
        """The model on a workbench of its own for a provider."""
        folder = self.folder / name
        folder.mkdir()

        def emit(event: dict[str, Any]) -> None:
            self.emit(event | ({"stage": f"{name}: {event['stage']}"} if "stage" in event else {}))

        request = replace(self.request, provider=name)
        return self.stack.enter_context(open_model(request, emit, folder))

    def _key(self, bench: Workbench) -> str:
        """What the choice is recorded under."""
        options = [f"{name}={getattr(self.request, name)}" for name in OPTIONS]
        sizes = ",".join(f"{name}={size}" for name, size in sorted(bench.sizes().items()))
        return f"provider of {bench.loaded.sha256} {sizes} {' '.join(options)}"

    def _memory(self, bench: Workbench, names: list[str]) -> tuner.Tuner:
        """The tuning record, for the choice among these providers."""
        request = self.request
        record = Path(request.tuning) if request.tuning else tuner.default_record()
        there = ", ".join(f"{name} {version(name)}" for name in names)
        return tuner.Tuner(
            None,
            bench.executor,
            record if request.measure or request.tuning else None,
            f"{tuner.processor()[0]}, {request.threads_used} threads, {there}",
            replay=request.tuning is not None,
            warn=self.warnings.append,
        )

    def _compiled(self, names: list[str], first: Workbench) -> dict[str, Standing]:
        """Those of the providers that run the model rightly; the reference where none does."""
        found: dict[str, Standing] = {}
        for name in names:
            bench = first if name == REFERENCE else self._bench(name)
            compilation = Compilation(bench, self.folder / name)
            try:
                candidate = compilation.prepare()
            except (InvalidModel, ResourceLimit, UsageError) as error:
                if name == REFERENCE:
                    raise
                self.reasons[name] = error.message
                continue
            drop = candidate.fidelity.drop if candidate.fidelity else 0.0
            if name != REFERENCE and drop > tolerated(self.request.max_drop):
                self.reasons[name] = f"its answers are not those of the input (loss {drop:.3g})"
                continue
            found[name] = Standing(compilation, candidate)
        return found or self._compiled([REFERENCE], first)

    def _choose(self, standing: Mapping[str, Standing]) -> Choice:
        """The fastest, surely faster than the first; the first where nothing can be timed."""
        names = list(standing)
        bench = standing[names[0]].compilation.bench
        if len(names) == 1:
            return Choice(names[0], 1.0, measured=False)
        if bench.untimed or not self.request.measure:
            self.warnings.append(f"provider {names[0]} was taken untimed: nothing was measured")
            return Choice(names[0], 1.0, measured=False)
        self.emit({"stage": "timing the providers"})
        feed = bench.executor.store([bench.timing_feed()])[0]
        entrants = {
            name: Entrant(standing[name].candidate.files[0].absolute(), feed, name)
            for name in names
        }
        with bench.contest() as contest:
            self.timings = contest.compare(entrants, TIMING_SECONDS)
        sure = {name: item for name, item in self.timings.items() if item.low > 1.0}
        winner = max(sure, key=lambda name: sure[name].speedup, default=names[0])
        gain = sure[winner].speedup if winner in sure else 1.0
        return Choice(winner, round(gain, 3), measured=True)

    def _table(self, choice: Choice) -> list[dict[str, Any]]:
        """The report's `providers`."""
        rows: list[dict[str, Any]] = []
        for name in CANDIDATES:
            timing = self.timings.get(name)
            row: dict[str, Any] = {
                "name": name, "version": version(name), "ms": None, "ratio": None, "ci95": None,
                "chosen": name == choice.winner, "reason": self.reasons.get(name, ""),
            }  # fmt: skip
            if timing is not None:
                row["ms"] = round(timing.candidate_ms, 3)
                row["ratio"] = round(timing.speedup, 3)
                row["ci95"] = [round(timing.low, 3), round(timing.high, 3)]
            elif self.timings and name == REFERENCE:
                row["ms"] = round(next(iter(self.timings.values())).baseline_ms, 3)
                row["ratio"] = 1.0
            rows.append(row)
        return rows
