"""`--provider auto`: a compilation for each provider that starts here; the fastest wins."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.driver.compilation import Compilation
from burnish.driver.contenders import Contender, Contenders
from burnish.driver.net import tolerated
from burnish.driver.request import Request, request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import sandbox
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, UsageError
from burnish.runtimes.providers import CANDIDATES, PROVIDERS, REFERENCE, version

START = "burnish.runtimes.work:start"


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
        self.contenders = Contenders(request, "provider")

    def run(self) -> dict[str, Any]:
        names = [name for name in CANDIDATES if self._starts(name)]
        first = self._bench(REFERENCE)
        key = self.contenders.key(first)
        there = ", ".join(f"{name} {version(name)}" for name in names)
        with self.contenders.memory(first, there) as memory:
            known = memory.recall(key, names)
            standing = self._compiled([known.winner] if known else names, first)
            choice = known if known and known.winner in standing else None
            choice = choice or self.contenders.choose(standing, "timing the providers")
            if choice.measured and choice is not known:
                memory.remember(key, choice)
        if choice is known:
            self.reasons |= dict.fromkeys(names, "not timed again: the tuning record has a choice")
        chosen = standing[choice.winner]
        chosen.compilation.bench.warnings += self.contenders.warnings
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

    def _compiled(self, names: list[str], first: Workbench) -> dict[str, Contender]:
        """Those of the providers that run the model rightly; the reference where none does."""
        found: dict[str, Contender] = {}
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
            found[name] = Contender(compilation, candidate)
        return found or self._compiled([REFERENCE], first)

    def _table(self, choice: Choice) -> list[dict[str, Any]]:
        """The report's `providers`."""
        return [
            {"name": name, "version": version(name)}
            | self.contenders.facts(name, REFERENCE)
            | {"chosen": name == choice.winner, "reason": self.reasons.get(name, "")}
            for name in CANDIDATES
        ]
