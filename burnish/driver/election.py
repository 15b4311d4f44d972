"""`--provider auto`: a compilation for each provider that starts here; the fastest wins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from burnish.driver.candidate import Candidate
from burnish.driver.contenders import Contenders
from burnish.driver.net import tolerated
from burnish.driver.request import Request
from burnish.driver.workbench import Emit
from burnish.optimizer import sandbox
from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, UsageError
from burnish.runtimes.providers import CANDIDATES, REFERENCE, version

START = "burnish.runtimes.work:start"


def compile_fastest(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks, on the fastest provider; JSON schema 1."""
    return _Election.compile(argument, emit)


class _Election(Contenders):
    """The providers that start here and run the model rightly."""

    what = "provider"
    first = REFERENCE
    survivable = (InvalidModel, ResourceLimit, UsageError)

    def run(self) -> dict[str, Any]:
        names = [name for name in CANDIDATES if self._starts(name)]
        there = ", ".join(f"{name} {version(name)}" for name in names)
        choice, standing = self.decide(names, there)
        rows = [
            {"name": name, "version": version(name)}
            | self.facts(name)
            | {"chosen": name == choice.winner, "reason": self.reasons.get(name, "")}
            for name in CANDIDATES
        ]
        winner = standing[choice.winner]
        return winner.compilation.finish(winner.candidate, rows)

    def changed(self, name: str) -> Request:
        return replace(self.request, provider=name)

    def why_not(self, candidate: Candidate) -> str:
        drop = candidate.fidelity.drop if candidate.fidelity else 0.0
        if drop <= tolerated(self.request.max_drop):
            return ""
        return f"its answers are not those of the input (loss {drop:.3g})"

    def _starts(self, name: str) -> bool:
        """Whether a provider starts here; the reference always does."""
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
