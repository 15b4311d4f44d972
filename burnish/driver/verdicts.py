"""What a gate says: a run beside its baseline, one row for each thing that is held to a bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PASSED = "passed"
FAILED = "FAILED"
UNJUDGED = "not judged"

LATENCY = "latency"
SIZE = "size"
LOSS = "loss"

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Bounds:
    """What may be worse than in the baseline, and by how much.

    Attributes:
        latency: the share of the input's time that the artifact takes, over the baseline's.
        size: its bytes over the baseline's.
        drop: loss that is added to the baseline's, 0 to 1.
    """

    latency: float = 1.1
    size: float = 1.05
    drop: float = 0.01


@dataclass(frozen=True)
class Row:
    """One thing that is held to a bound.

    Attributes:
        name: what it is; of a group of the data or an output, with its name.
        unit: of `baseline` and `current`: `ratio` (of times), `bytes` or `loss`.
        change: `current` over `baseline`; of a loss, their difference.
        interval: of `change`, where it is measured.
        allowed: the largest change.
        status: `PASSED`, `FAILED` or `UNJUDGED`.
        reason: why it is not judged, or what else is to be known.
    """

    name: str
    unit: str
    baseline: float | None
    current: float | None
    change: float | None
    allowed: float
    status: str
    interval: tuple[float, float] | None = None
    reason: str = ""


def rows(baseline: Report, current: Report, bounds: Bounds) -> list[Row]:
    """The rows of two reports of the main job; see `gate` for what is in them."""
    return [
        *_latency(baseline, current, bounds.latency),
        _size(baseline, current, bounds.size),
        *_losses(baseline, current, bounds.drop),
        *_missing(current),
    ]


def share(report: Report) -> tuple[float, float, float] | None:
    """The artifact's time over the input's, with its interval of 95 %; None where not measured.

    What was left unchanged takes the time it took.
    """
    latency = report["latency"]
    if latency:
        low, high = latency["ci95"]
        return 1 / latency["speedup"], 1 / high, 1 / low
    passes = report.get("passes")
    unchanged = passes is not None and not any(step["status"] == "kept" for step in passes)
    return (1.0, 1.0, 1.0) if unchanged else None


def failures(found: list[Row]) -> list[str]:
    """The rows that failed, each in a line."""
    return [_told(row) for row in found if row.status == FAILED]


def _told(row: Row) -> str:
    if row.change is None:
        return f"{row.name}: {row.reason}"
    if row.unit == LOSS:
        return f"{row.name}: {row.change:+.3g}, allowed {row.allowed:+g}"
    noise = f" ({row.interval[0]:.3f} to {row.interval[1]:.3f})" if row.interval else ""
    return f"{row.name}: {row.change:.3f} times the baseline's{noise}, allowed {row.allowed:g}"


def _latency(baseline: Report, current: Report, bound: float) -> Iterator[Row]:
    before, now = share(baseline), share(current)
    found = current["latency"] and current["latency"].get("change")
    if not found:
        reason = "nothing was timed"
        yield Row(
            LATENCY, "ratio", before and before[0], now and now[0], None, bound, UNJUDGED,
            reason=reason,
        )  # fmt: skip
        return
    low, value, high = found["low"], found["value"], found["high"]
    status = PASSED if value <= bound else FAILED
    open_ended = low <= bound < high
    reason = "the interval holds the bound: its middle decides" if open_ended else ""
    yield Row(
        LATENCY, "ratio", before and before[0], now and now[0], value, bound, status, (low, high),
        reason,
    )  # fmt: skip


def _size(baseline: Report, current: Report, bound: float) -> Row:
    before, now = baseline["output"]["bytes"], current["output"]["bytes"]
    value = now / before
    return Row(SIZE, "bytes", before, now, value, bound, PASSED if value <= bound else FAILED)


def _losses(baseline: Report, current: Report, bound: float) -> Iterator[Row]:
    """The loss of the whole, then that of each group of the data."""
    before, now = baseline["fidelity"], current["fidelity"]
    if before is None:
        reason = "the baseline has none"
        yield Row(LOSS, "loss", None, now and now["drop"], None, bound, UNJUDGED, reason=reason)
        return
    if now is None:
        reason = "answers were not compared"
        yield Row(LOSS, "loss", before["drop"], None, None, bound, FAILED, reason=reason)
        return
    yield _loss(LOSS, before["drop"], now["drop"], bound)
    for name, earlier in before["groups"].items():
        if name in now["groups"]:
            yield _loss(f"{LOSS} of {name}", earlier, now["groups"][name], bound)
        else:
            reason = "the data has no such group"
            yield Row(
                f"{LOSS} of {name}", "loss", earlier, None, None, bound, FAILED, reason=reason
            )


def _loss(name: str, before: float, now: float | None, bound: float) -> Row:
    """A loss without a number (an output that is infinitely far off) is more than any bound."""
    if now is None or not math.isfinite(now):
        return Row(name, "loss", before, None, None, bound, FAILED, reason="it has no limit")
    # Sums of decimals: a loss of 0.03 after one of 0.02 is no more than 0.01.
    fits = now - before <= bound + 1e-9
    return Row(name, "loss", before, now, now - before, bound, PASSED if fits else FAILED)


def _missing(current: Report) -> Iterator[Row]:
    """Outputs that the input has, and the artifact has not."""
    for name in current.get("signature", {}).get("missing", ()):
        yield Row(f"output {name}", "ratio", None, None, None, 0.0, FAILED, reason="it is missing")
    if condition := current.get("missed"):
        yield Row("conditions", "ratio", None, None, None, 0.0, FAILED, reason=condition)
