"""`--prune`: how much of a model goes, so that its answers keep to the budget.

A share of the operations is asked for, or as many as the budget, or a speed-up, allows (`auto`).
What the sites cost is found once; each attempt then chooses widths, repairs and is judged on feeds
that nothing was found with. The largest share within the budget is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from burnish.driver.candidate import Candidate
from burnish.driver.prunable import ACTIVATIONS, AUTO_PRUNE
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.contract import Pass
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.pipeline import Compiled, Step
from burnish.optimizer.pruned import Pruned
from burnish.passes.compress.pruning.prune import Prune, usable

ATTEMPTS = 5
"""Shares that are tried where the first loses too much."""

MOST = 0.9
"""Share of the operations that `auto` removes at most."""

FOR_PRECISION = 0.75
"""Share of the budget that pruning may spend where a precision is to spend some, too."""

LEAST = 0.01
"""Share below which nothing is gained."""

ROUNDS = 3
"""Compilations until a speed-up is reached that is asked for."""

NEAR = 1.1
"""A speed-up up to so many times what was asked for is near enough."""


class TooMuch(BurnishError):
    """A share of the layers cannot go within the budget."""


class NothingGoes(TooMuch):
    """No share can."""


@dataclass
class Pruning:
    """Settles how much of a model is pruned.

    Attributes:
        request: with what is asked for, and the budget.
        compile_: runs passes on a model, and checks them.
        judge: stages what was compiled and compares it with the original.
        goal: the speed-up of the pruned layers that is aimed at; None where a share is.
        limited: what the budget left, in words; empty where it was no limit.
        exact: the share goes as it is, or `settle` raises: no other one is looked for.
    """

    request: Request
    compile_: Callable[..., Compiled]
    judge: Callable[[Compiled], Candidate]
    goal: float | None = None
    limited: str = ""
    exact: bool = False

    def __post_init__(self) -> None:
        if self.request.prune == AUTO_PRUNE and self.request.speedup is not None:
            precise = bool(self.request.precision)
            self.goal = max(1.0, self.request.speedup / (2.0 if precise else 1.0))

    @property
    def wanted(self) -> float:
        """The share of the cost that is to go."""
        if self.goal is not None:
            return 1.0 - 1.0 / self.goal
        return MOST if self.request.prune == AUTO_PRUNE else float(self.request.prune or 0.0)

    def settle(self, before: Compiled) -> Compiled:
        """The compilation with one more step: the most that keeps to the budget.

        Raises:
            TooMuch: where the share is `exact`, and loses more than that.
        """
        first = self._attempt(before, self.wanted)
        step = first.steps[-1]
        if step.status != "kept":
            if self.exact:
                reason = step.reason or step.outcome.detail
                raise TooMuch(reason) if usable(before.model)[0] else NothingGoes(reason)
            return first
        if (loss := self._loss(first)) <= self.budget:
            return first
        if self.exact:
            raise TooMuch(
                f"{self.wanted:.2f} of the layers loses {loss:.3g}, more than {self.budget:g}"
            )
        found = self._largest(before)
        budget = f"the budget of {self.request.max_drop:g}"
        if found is None:
            self.limited = f"{self.wanted:.2f} of the layers loses {loss:.3g}, and less than that"
            self.limited += f" still more than {budget}"
            step = pipeline.rejected(first.steps[-1], self.limited)
            return Compiled(before.model, (*before.steps, step), first.snapshots)
        self.limited = f"{self.wanted:.2f} of the layers loses {loss:.3g}, more than {budget}"
        return found

    @property
    def budget(self) -> float:
        """What pruning may spend."""
        return self.request.max_drop * (FOR_PRECISION if self.request.precision else 1.0)

    def _largest(self, before: Compiled) -> Compiled | None:
        """The largest share within the budget, as far as attempts reach."""
        low, high = 0.0, self.wanted
        found: Compiled | None = None
        for _ in range(ATTEMPTS):
            if high - low < LEAST:
                break
            share = (low + high) / 2
            attempt = self._attempt(before, share)
            if attempt.steps[-1].status == "kept" and self._loss(attempt) > self.budget:
                high = share
            elif attempt.steps[-1].status != "kept":
                low = share
            else:
                low, found = share, attempt
        return found

    def _attempt(self, before: Compiled, share: float) -> Compiled:
        quick = self.request.importance == ACTIVATIONS
        wanted: Pass = Prune(share=round(share, 4), quick=quick)
        if self.goal is not None:
            speedup = 1.0 / (1.0 - share)
            wanted = Prune(share=None, speedup=speedup, int8=self.request.int8, quick=quick)
        made = self.compile_([wanted], before.model)
        return Compiled(made.model, before.steps + made.steps, before.snapshots + made.snapshots)

    def _loss(self, compiled: Compiled) -> float:
        fidelity = self.judge(compiled).fidelity
        return fidelity.drop if fidelity is not None else 0.0

    def again(self, candidate: Candidate) -> bool:
        """Whether another round should aim at another speed-up of the layers; sets the goal."""
        wanted, timing = self.request.speedup, candidate.timing
        if self.goal is None or wanted is None or timing is None or self.limited:
            return False
        if wanted <= timing.speedup <= wanted * NEAR:
            return False
        goal = max(1.0, self.goal * wanted * (1 + NEAR) / 2 / timing.speedup)
        if goal == self.goal:
            return False
        self.goal = min(goal, 1.0 / (1.0 - MOST))
        return True


def facts(compiled: Compiled, request: Request, limited: str) -> dict[str, Any] | None:
    """The report's `pruning`; None where nothing was asked for."""
    step = next((item for item in compiled.steps if isinstance(item.transform, Prune)), None)
    if step is None:
        return None
    rows = step.outcome.pruned if step.status == "kept" else ()
    before, after = (
        sum(getattr(row, name) for row in rows) for name in ("flops_before", "flops_after")
    )
    return {
        "asked": request.prune,
        "removed": 1.0 - after / before if before else 0.0,
        "flops_ratio": before / after if after else None,
        "limited": limited or (step.reason if step.status != "kept" else ""),
        "sites": [_row(row) for row in rows],
        "left_alone": _left_alone(step),
    }


def _row(row: Pruned) -> dict[str, Any]:
    return {
        "site": row.site,
        "kind": row.kind,
        "before": row.before,
        "after": row.after,
        "sizes": list(row.sizes) if row.sizes is not None else None,
        "rank": row.rank,
        "flops_ratio": row.flops_after / row.flops_before if row.flops_before else 1.0,
        "lost": row.lost,
    }


def _left_alone(step: Step) -> list[dict[str, str]]:
    return [{"node": item.node, "reason": item.reason} for item in step.outcome.refusals]


def missed(request: Request, told: dict[str, Any] | None) -> str:
    """What was asked for and is not reached; empty where it is."""
    if not told or request.prune in (None, AUTO_PRUNE):
        return ""
    if told["removed"] >= float(request.prune or 0) - LEAST:
        return ""
    why = told["limited"] or "nothing more can go"
    return f"--prune {request.prune} is not met: {told['removed']:.2f} went ({why})"
