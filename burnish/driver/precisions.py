"""`--precision auto`: a compilation for each precision; the fastest within the budget wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.driver.candidate import Candidate
from burnish.driver.contenders import Contender, Contenders
from burnish.driver.request import PRECISIONS, Request
from burnish.driver.workbench import Emit
from burnish.optimizer.contract import Kind
from burnish.passes.lower.half.half_precision import PROCESSORS
from burnish.runtimes.providers import PROVIDERS, version

FLOAT = "fp32"
"""What the others are compared with: everything but a smaller function."""

REFUSED = {"fp16": PROCESSORS, "bf16": PROCESSORS}
"""Providers on which a precision has nothing to gain but size."""


def compile_fastest(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks, in the fastest precision; JSON schema 1."""
    return _Auction.compile(argument, emit)


class _Auction(Contenders):
    """The precisions that keep to the budget and change anything."""

    what = "precision"
    first = FLOAT

    def run(self) -> dict[str, Any]:
        refused = {name: may_stand(self.request, name) for name in PRECISIONS}
        self.reasons |= {name: reason for name, reason in refused.items() if reason}
        names = [FLOAT, *(name for name in PRECISIONS if not refused[name])]
        provider = self.request.provider
        choice, standing = self.decide(names, f"{provider} {version(provider)}")
        rows = [
            self._row(name, standing, chosen=name == choice.winner) for name in (FLOAT, *PRECISIONS)
        ]
        for row in rows:
            row["pareto"] = row["drop"] is not None and not any(
                dominates(other, row) for other in rows
            )
        winner = standing[choice.winner]
        result = winner.compilation.finish(winner.candidate, precisions=rows)
        for name, row in zip((FLOAT, *PRECISIONS), rows, strict=True):
            row["path"] = str(self.request.target) if row["chosen"] else None
            if self.request.points and row["pareto"] and not row["chosen"]:
                row["path"] = str(self._point(name, standing[name]))
        return result | {"precisions": rows}

    def _point(self, name: str, item: Contender) -> Path:
        """Write a result beside the chosen one, by the name of its precision."""
        target = self.request.target
        named = target.with_name(f"{target.stem}.{name.replace('_', '-')}.onnx")
        if not self.request.dry_run:
            item.compilation.write_also(item.candidate, named)
        return named

    def changed(self, name: str) -> Request:
        wanted: dict[str, Any] = {option: option == name for option in PRECISIONS}
        target = str(self.request.target)
        return replace(self.request, auto_precision=False, output=target, **wanted)

    def why_not(self, candidate: Candidate) -> str:
        lossy = [
            step
            for step in candidate.compiled.steps
            if step.transform.promise.kind is Kind.LOSSY and step.transform.asked
        ]
        if any(step.status == "kept" for step in lossy):
            return ""
        return next((step.reason for step in lossy), "it changes nothing")

    def _row(self, name: str, standing: dict[str, Contender], *, chosen: bool) -> dict[str, Any]:
        """A row of the report's `precisions`."""
        facts: dict[str, Any] = {"name": name.replace("_", "-"), "drop": None, "bytes": None}
        if name in standing:
            candidate = standing[name].candidate
            facts["drop"] = candidate.fidelity.drop if candidate.fidelity else None
            facts["bytes"] = sum(file.stat().st_size for file in candidate.files)
        facts |= self.facts(name)
        return facts | {"chosen": chosen, "reason": self.reasons.get(name, "")}


def may_stand(request: Request, name: str) -> str:
    """Why a precision cannot gain on the provider at all; empty where it may."""
    provider = request.provider
    kind = PROVIDERS[provider].int8
    if name == "int8" and kind == "qdq" and request.data is None:
        return f"{provider} wants ranges that only --data gives"
    if (name == "int8" and kind == "weights") or provider in REFUSED.get(name, ()):
        return f"{provider} has no faster kernels for it"
    return ""


def dominates(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a result is nowhere worse than another one, and somewhere better."""
    named = [name for name in ("ms", "bytes", "drop") if row[name] is not None]
    if row["drop"] is None or any(other[name] is None for name in named):
        return False
    pairs = [(row[name], other[name]) for name in named]
    return all(mine <= theirs for mine, theirs in pairs) and any(a < b for a, b in pairs)
