"""Which places get which form: from everything compressed to nothing, the best trade first.

Each place has up to three forms: compressed, compressed less (`finer`), and as it was. What a form
costs in the answer is its energy, the squared relative error where it alone is compressed: errors
of different places hardly depend on each other, so that energies add up. What it costs in time is
known from samples. Steps are taken by energy saved for the time spent. For each loss on the way no
assignment is faster than the one found, but for the last step (the linear relaxation of a knapsack
with choices, Sinha and Zoltners, 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.driver.plan import Spared

PRICES = {"finer": 1e-7, "keep": 1e-6}
"""Milliseconds that stand for the memory of a parameter in a larger form."""


@dataclass(frozen=True)
class Form:
    """A form of a unit: what it costs the answer, and its time in milliseconds."""

    energy: float
    ms: float


@dataclass(frozen=True)
class Unit:
    """Places that get one form.

    Attributes:
        names: of the values that they give.
        parameters: weights behind them.
        coarse: compressed.
        finer: compressed less; None where there is no such form.
        exact_ms: their time as they were.
    """

    names: tuple[str, ...]
    parameters: int
    coarse: Form
    finer: Form | None
    exact_ms: float

    def steps(self) -> list[tuple[float, str, float]]:
        """Steps to gentler forms: energy saved for a millisecond, which form, energy saved.

        A form that costs more than a mixture of its neighbours is left out.
        """
        there = [("keep", Form(0.0, self.exact_ms))]
        if self.finer is not None and self.finer.energy < self.coarse.energy:
            there.insert(0, ("finer", self.finer))
        found: list[tuple[float, str, float]] = []
        at = self.coarse
        while there:
            rates = [self._rate(at, *item) for item in there]
            best = max(range(len(there)), key=lambda index: rates[index])
            name, form = there[best]
            found.append((rates[best], name, at.energy - form.energy))
            at, there = form, there[best + 1 :]
        return found

    def _rate(self, at: Form, name: str, to: Form) -> float:
        price = max(to.ms - at.ms, 0.0) + PRICES[name] * self.parameters
        return (at.energy - to.energy) / price


@dataclass(frozen=True)
class Step:
    """An assignment on the way.

    Attributes:
        spared: the places that are not simply compressed.
        energy: what is left, as a share of that of everything compressed.
    """

    spared: Spared
    energy: float


def way(units: Sequence[Unit]) -> list[Step]:
    """Ever gentler assignments, the first with one unit spared, the last with all in float."""
    moves = [(*step, unit) for unit in units for step in unit.steps()]
    moves.sort(key=lambda move: (-move[0], move[-1].names))
    total = left = sum(unit.coarse.energy for unit in units) or 1.0
    spared, found = Spared(), []
    for _, form, energy, unit in moves:
        left -= energy
        spared += Spared(**{form: unit.names})
        found.append(Step(spared, max(left, 0.0) / total))
    return found
