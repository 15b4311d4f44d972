"""`--precision auto`: a compilation for each precision; the fastest within the budget wins."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.driver.compilation import Compilation
from burnish.driver.contenders import Contender, Contenders
from burnish.driver.request import PRECISIONS, Request, request_from
from burnish.driver.workbench import Emit, open_model
from burnish.optimizer.contract import Kind
from burnish.optimizer.errors import BurnishError
from burnish.runtimes.providers import PROVIDERS, version

FLOAT = "fp32"
"""What the others are compared with: everything but a smaller function."""

REFUSED = {"fp16": ("cpu", "openvino")}
"""Providers on which a precision has nothing to gain but size."""


def compile_fastest(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks, in the fastest precision; JSON schema 1."""
    request = request_from(argument)
    with contextlib.ExitStack() as stack:
        return _Auction(request, Path(argument["staging"]), emit, stack).run()


class _Auction:
    """The steps of the choice; `reasons` holds why a precision does not stand, by its name."""

    def __init__(
        self, request: Request, folder: Path, emit: Emit, stack: contextlib.ExitStack
    ) -> None:
        self.request = request
        self.folder = folder
        self.emit = emit
        self.stack = stack
        self.reasons: dict[str, str] = {}
        self.contenders = Contenders(request, "precision")

    def run(self) -> dict[str, Any]:
        names = [FLOAT, *(name for name in PRECISIONS if self._may_stand(name))]
        first = self._compilation(FLOAT)
        key, provider = self.contenders.key(first.bench), self.request.provider
        there = f"{provider} {version(provider)}"
        with self.contenders.memory(first.bench, there) as memory:
            known = memory.recall(key, names)
            chosen = [FLOAT] if known is None else [known.winner]
            standing = self._standing(names if known is None else chosen, first)
            choice = known if known and known.winner in standing else None
            choice = choice or self.contenders.choose(standing, "timing the precisions")
            if choice.measured and choice is not known:
                memory.remember(key, choice)
        if choice is known:
            self.reasons |= dict.fromkeys(names, "not timed again: the tuning record has a choice")
        winner = standing[choice.winner]
        winner.compilation.bench.warnings += self.contenders.warnings
        rows = [
            self._row(name, standing, chosen=name == choice.winner) for name in (FLOAT, *PRECISIONS)
        ]
        return winner.compilation.finish(winner.candidate, precisions=rows)

    def _may_stand(self, name: str) -> bool:
        """Whether a precision may gain on the provider at all."""
        provider = self.request.provider
        lacking = name == "int8" and PROVIDERS[provider].int8 != "products"
        if lacking or provider in REFUSED.get(name, ()):
            self.reasons[name] = f"{provider} has no faster kernels for it"
            return False
        return True

    def _compilation(self, name: str) -> Compilation:
        """The compilation for a precision, on a workbench of its own."""
        folder = self.folder / name
        folder.mkdir()

        def emit(event: dict[str, Any]) -> None:
            self.emit(event | ({"stage": f"{name}: {event['stage']}"} if "stage" in event else {}))

        wanted: dict[str, Any] = {option: option == name for option in PRECISIONS}
        target = str(self.request.target)
        request = replace(self.request, auto_precision=False, output=target, **wanted)
        bench = self.stack.enter_context(open_model(request, emit, folder))
        return Compilation(bench, folder)

    def _standing(self, names: list[str], first: Compilation) -> dict[str, Contender]:
        """Those of the precisions that keep to the budget and change anything."""
        found: dict[str, Contender] = {}
        for name in names:
            compilation = first if name == FLOAT else self._compilation(name)
            try:
                candidate = compilation.prepare()
            except BurnishError as error:
                if name == FLOAT:
                    raise
                self.reasons[name] = error.message
                continue
            lossy = [
                step
                for step in candidate.compiled.steps
                if step.transform.promise.kind is Kind.LOSSY and step.transform.asked
            ]
            if name != FLOAT and not any(step.status == "kept" for step in lossy):
                self.reasons[name] = next((step.reason for step in lossy), "it changes nothing")
                continue
            found[name] = Contender(compilation, candidate)
        return found or self._standing([FLOAT], first)

    def _row(self, name: str, standing: dict[str, Contender], *, chosen: bool) -> dict[str, Any]:
        """A row of the report's `precisions`."""
        facts: dict[str, Any] = {"name": name.replace("_", "-"), "drop": None, "bytes": None}
        if name in standing:
            candidate = standing[name].candidate
            facts["drop"] = candidate.fidelity.drop if candidate.fidelity else None
            facts["bytes"] = sum(file.stat().st_size for file in candidate.files)
        facts |= self.contenders.facts(name, FLOAT)
        return facts | {"chosen": chosen, "reason": self.reasons.get(name, "")}
