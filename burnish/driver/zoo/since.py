"""A zoo against an earlier run of it: what has become larger, slower or less like its input.

What is compared are ratios within a run, never milliseconds of two: a member has become slower
where its gain over its own input is less than it was by more than noise explains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.driver.zoo.rows import FAILED, MISSED, Row
from burnish.optimizer.errors import StorageError, UsageError, reason_of

LARGER = 1.01
"""Factor of the ratio of sizes from which on a result counts as larger."""

SLOWER = 0.95
"""Factor of the gain in time below which a result counts as slower, where the intervals are apart
as well."""

FURTHER = 1e-3
"""Loss, from 0 to 1, by which a result may differ more from its input than it did."""

SCHEMA = 1
"""Of zoo.json."""


def earlier(path: Path) -> dict[str, Row]:
    """The rows of an earlier `zoo.json`, by name.

    Raises:
        StorageError: it cannot be read.
        UsageError: it is no report of a zoo.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise UsageError(f"{path} is of schema {content['schema']}, not {SCHEMA}")
        return {row["name"]: _admitted(row) for row in content["members"]}
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {reason_of(error)}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{path} is no report of a zoo", hint="a zoo.json") from None


def _admitted(row: Row) -> Row:
    """The row, where what is compared is of the types that it has; raises TypeError where not."""
    numbers = [row[key] for key in ("size_ratio", "speedup", "drop")] + (row["ci95"] or [])
    if not all(isinstance(item, int | float | None) for item in numbers):
        raise TypeError("a figure is no number")
    if not isinstance(row["name"], str) or not isinstance(row["status"], str):
        raise TypeError("a name is no text")
    return row


def compared(before: Mapping[str, Row], rows: Sequence[Row]) -> dict[str, Any]:
    """What has become worse (`regressions`), and what can no longer be said (`notes`)."""
    regressions, notes = [], []
    names = {row["name"] for row in rows}
    for row in rows:
        old = before.get(row["name"])
        if old is None:
            notes.append(f"{row['name']} is new")
            continue
        regressions += list(_worse(old, row))
        if old["speedup"] is not None and row["speedup"] is None and row["status"] != FAILED:
            notes.append(f"{row['name']} was timed, and is not this time")
        if old["drop"] is not None and row["drop"] is None and row["status"] != FAILED:
            notes.append(f"{row['name']} was compared with its input, and is not this time")
    notes += [f"{name} is no longer there" for name in before if name not in names]
    return {"regressions": regressions, "notes": notes}


def _worse(old: Row, new: Row) -> Iterator[dict[str, Any]]:
    """The ways in which a member has become worse."""
    if new["status"] == FAILED:
        if old["status"] != FAILED:
            yield _found(new, "status", old["status"], FAILED, new["reason"])
        return
    if new["status"] == MISSED and old["status"] not in (MISSED, FAILED):
        yield _found(new, "status", old["status"], MISSED, new["reason"])
    was, now = old["size_ratio"], new["size_ratio"]
    if was is not None and now > was * LARGER:
        text = f"{now:.3f} of its input's size, {was:.3f} before"
        yield _found(new, "size", was, now, text)
    was, now = old["speedup"], new["speedup"]
    if was is not None and now is not None and now < was * SLOWER:
        low, high = (old["ci95"] or [was])[0], (new["ci95"] or [now])[-1]
        if high < low:
            text = f"{now:.2f} times as fast as its input, {was:.2f} times before"
            yield _found(new, "speed", was, now, text)
    was, now = old["drop"], new["drop"]
    if was is not None and now is not None and now > was + FURTHER:
        yield _found(new, "fidelity", was, now, f"a loss of {now:.3g}, {was:.3g} before")


def _found(row: Row, what: str, before: Any, after: Any, text: str) -> dict[str, Any]:
    return {"name": row["name"], "what": what, "before": before, "after": after, "text": text}
