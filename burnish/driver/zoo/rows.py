"""A member's row: what came of it, from the report of its compilation or from an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.driver.zoo.jobs import Job
from burnish.driver.zoo.store import Note
from burnish.optimizer.errors import BurnishError, printable

Row = dict[str, Any]

CONVERTED, UNCHANGED, MISSED, FAILED = "converted", "unchanged", "missed", "failed"
"""What becomes of a member: written; written as it was; written, but a condition of the user's is
not met (`--speedup`, `--max-drop`); not written, for a reason."""

LASTING = (3, 4)
"""Exit codes of failures that are the same again: those of the model itself."""

MOST_REASON = 400
"""Characters of a reason."""

NOTHING: Mapping[str, Any] = {
    "input_bytes": None, "output_bytes": None, "size_ratio": None, "speedup": None, "ci95": None,
    "drop": None, "metric": None, "feeds": None, "attentions": None, "passes": [], "warnings": [],
    "seconds": 0.0, "peak_bytes": None,
}  # fmt: skip
"""The facts of a member of which nothing is known."""


def made(report: Mapping[str, Any], written: int, missed: str, seconds: float) -> dict[str, Any]:
    """The facts of a compilation.

    Args:
        report: of the main job; a checkpoint's has parts.
        written: bytes of all files that it wrote.
        missed: the condition that it does not meet, or empty.
        seconds: that it took.
    """
    parts = list(report.get("parts", {"": report}).values())
    changed = any(step["status"] == "kept" for part in parts for step in part["passes"])
    before = report["export"]["bytes"] if "export" in report else report["input"]["bytes"]
    status = MISSED if missed else CONVERTED if changed or "export" in report else UNCHANGED
    found = [part["recovered"]["attention"] for part in parts]
    whole = [*parts, *([report["export"]] if "export" in report else [])]
    return {
        **NOTHING,
        "status": status,
        "exit_code": 1 if missed else 0,
        "reason": missed,
        "input_bytes": before,
        "output_bytes": written,
        "size_ratio": round(written / max(before, 1), 4),
        **_slowest(parts),
        **_furthest(parts),
        "attentions": {key: sum(item[key] for item in found) for key in ("expected", "found")},
        "passes": [
            step["name"] for part in parts for step in part["passes"] if step["status"] == "kept"
        ],
        "warnings": [text for part in parts for text in part["warnings"]],
        "seconds": round(seconds, 1),
        "peak_bytes": max(item["memory"]["compile_peak_rss_bytes"] for item in whole),
    }


def failed(error: BurnishError, seconds: float) -> dict[str, Any]:
    """The facts of a member that came to nothing."""
    place = f" ({error.place})" if error.place else ""
    hint = f"; try {error.hint}" if error.hint else ""
    return {
        **NOTHING,
        "status": FAILED,
        "exit_code": error.exit_code,
        "reason": printable(f"{error.message}{place}{hint}", MOST_REASON),
        "seconds": round(seconds, 1),
    }


def row(job: Job, note: Note, report: Path | None) -> Row:
    """The row of a job: who it is, and the facts of its note."""
    files = note["files"]
    return {
        "name": printable(job.member.name, MOST_REASON),
        "path": str(job.member.path),
        "options": dict(job.options),
        "key": job.key,
        "need_bytes": job.need,
        **note["facts"],
        "output": job.target.as_posix() if files else None,
        "files": files,
        "report": report.as_posix() if report is not None else None,
    }


def _slowest(parts: list[Any]) -> dict[str, Any]:
    """The least gain of any graph; nothing where one was not timed."""
    times = [part["latency"] for part in parts]
    if not all(times):
        return {}
    least = min(times, key=lambda item: item["speedup"])
    return {"speedup": least["speedup"], "ci95": least["ci95"]}


def _furthest(parts: list[Any]) -> dict[str, Any]:
    """The largest loss of any graph; nothing where one was not compared."""
    losses = [part["fidelity"] for part in parts]
    if not all(losses):
        return {}
    most = max(losses, key=lambda item: item["drop"])
    return {key: most[key] for key in ("drop", "metric", "feeds")}
