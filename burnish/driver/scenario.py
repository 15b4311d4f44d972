"""What happens to a plan that is simulated, as it is told at the prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.optimizer.errors import UsageError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Scenario:
    """What happens to a plan.

    Attributes:
        feeds: that are sent.
        rate: feeds that come in a second; None for as many as there is room for.
        scatter: standard deviation of times over their mean.
        slowed: factors on the time of stages, by their numbers from 1, in the first replica.
        between: mean seconds until a device fails; None for never.
        recovery: seconds until its replica is up again.
        seed: of all that is drawn.
    """

    feeds: int = 1000
    rate: float | None = None
    scatter: float = 0.0
    slowed: Mapping[str, float] = field(default_factory=dict)
    between: float | None = None
    recovery: float = 0.0
    seed: int = 0


def scenario(
    *, straggler: Sequence[str] = (), failures: str | None = None, **rest: Any
) -> Scenario:
    """A scenario as it is written at the prompt.

    Args:
        straggler: `STAGE:FACTOR` each.
        failures: `MTBF,RECOVERY`: seconds, or with a unit, as in 50000h,5m.
        rest: the other fields.

    Raises:
        UsageError: one of them means nothing.
    """
    slowed = dict(_slowed(item) for item in straggler)
    between, recovery = None, 0.0
    if failures is not None:
        first, _, second = failures.partition(",")
        between, recovery = (_seconds(part.strip(), failures) for part in (first, second))
    return Scenario(slowed=slowed, between=between, recovery=recovery, **rest)


def _slowed(text: str) -> tuple[str, float]:
    stage, _, factor = text.partition(":")
    value = _number(factor)
    if not stage.isdecimal() or int(stage) < 1 or not value > 0.0:
        raise UsageError(f"--straggler {text} is not STAGE:FACTOR", hint="--straggler 2:1.5")
    return stage, value


def _seconds(text: str, whole: str) -> float:
    unit = UNITS.get(text[-1:], 0.0)
    value = _number(text[:-1]) * unit if unit else _number(text)
    if not value > 0.0:
        raise UsageError(f"--failures {whole} is not MTBF,RECOVERY", hint="--failures 50000h,5m")
    return value


def _number(text: str) -> float:
    """A finite number; not a number where the text is none."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
