"""What was not done, and why: places that passes left alone, passes that were taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from burnish.optimizer.report import alike
from burnish.report.headline import RECOVERED
from burnish.report.numbers import counted

MOST_REASONS = 20
"""Reasons of one pass that are shown; the rest is counted, and in the data."""

MOST_NODES = 4
"""Places that are named for each reason."""

RATIO = re.compile(r"\d+(?:\.\d+)?(?= times)")
"""A measured ratio within a reason."""

Report = dict[str, Any]
Places = Sequence[dict[str, Any]]


def grouped(places: Places) -> list[list[dict[str, Any]]]:
    """Those whose reasons differ in numbers alone together, the largest groups first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in places:
        groups.setdefault(alike(item["reason"]), []).append(item)
    return sorted(groups.values(), key=lambda group: -len(group))


def spanned(group: Places) -> str:
    """The first one's reason, with the range of what was measured in all of them."""
    found = [RATIO.findall(item["reason"]) for item in group]
    ranges = iter([sorted(ratios, key=float) for ratios in zip(*found, strict=True)])

    def span(match: re.Match[str]) -> str:
        ratios = next(ranges)
        return ratios[0] if ratios[0] == ratios[-1] else f"{ratios[0]} to {ratios[-1]}"

    return RATIO.sub(span, group[0]["reason"])


def left(report: Report) -> list[dict[str, Any]]:
    """Places that passes left alone, by pass, those with the most places first."""
    told = [_pass(step["name"], step["refusals"]) for step in report["passes"] if step["refusals"]]
    return sorted(told, key=lambda item: -item["count"])


def _pass(name: str, places: Places) -> dict[str, Any]:
    groups = grouped(places)
    rows = [
        {
            "reason": spanned(group),
            "count": len(group),
            "nodes": [item["node"] for item in group[:MOST_NODES] if item["node"]],
            "more": max(0, len(group) - MOST_NODES),
        }
        for group in groups[:MOST_REASONS]
    ]
    hidden = sum(len(group) for group in groups[MOST_REASONS:])
    return {"name": name, "count": len(places), "rows": rows, "hidden": hidden}


def missed(report: Report) -> list[dict[str, Any]]:
    """What was looked for and not recovered, by kind."""
    told = []
    for kind, several in RECOVERED:
        facts = report["recovered"].get(kind) or {"missed": []}
        if facts["missed"]:
            told.append(_pass(several, facts["missed"]))
    return told


def taken_back(report: Report) -> list[dict[str, str]]:
    """Passes that were rejected or skipped, with the reason."""
    return [
        {"name": step["name"], "status": step["status"], "reason": step["reason"]}
        for step in report["passes"]
        if step["status"] in ("rejected", "skipped")
    ]


def steps(report: Report) -> dict[str, Any]:
    """The passes that did something, and how many did not."""
    kept = [
        {
            "name": step["name"],
            "phase": step["phase"],
            "promise": step["promise"],
            "rewrites": f"{step['rewrites']:,}",
            "detail": step["detail"],
        }
        for step in report["passes"]
        if step["status"] == "kept"
    ]
    idle = [step for step in report["passes"] if step["status"] == "unchanged"]
    seconds = sum(step["seconds"] for step in idle)
    text = f"{counted(len(idle), 'pass', 'passes')} changed nothing, in {seconds:.1f} s."
    return {"kept": kept, "idle": text if idle else ""}
