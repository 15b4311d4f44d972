"""What places take by the sample that their form was chosen with, or by rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Choice

RATE = 5e7
"""Multiplications of float32 in a millisecond where nothing was measured: two cores of 2024."""

FLOAT = "fp32"
"""The form of a product that stays as it is."""


def at_full_size(choice: Choice, work: float, sampled: float, gain: float) -> Choice:
    """A choice with the time of the place itself.

    Args:
        choice: among forms of a sample.
        work: multiplications of the place.
        sampled: those of the sample.
        gain: stands for the speed-up of a form that was not measured.
    """
    ms = choice.ms * work / sampled if choice.ms else work / RATE
    known = choice.measured or choice.winner == FLOAT
    return replace(choice, ms=ms, speedup=choice.speedup if known else gain)


def spent(plan: Iterable[tuple[Sequence[Product], Choice]]) -> dict[str, tuple[float, float]]:
    """The times of several groups of products."""
    return {name: pair for item in plan for name, pair in times(*item).items()}


def times(members: Sequence[Product], choice: Choice) -> dict[str, tuple[float, float]]:
    """The times of products that share a choice, as `contract.Outcome` has them."""
    whole = sum(member.n for member in members)
    found = {}
    for member in members:
        before = choice.ms * member.n / whole
        after = before if choice.winner == FLOAT else before / choice.speedup
        found[member.output.name or ""] = (before, after)
    return found
