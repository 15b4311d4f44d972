"""What the artifact keeps of the input's answers, and the choices that were weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from burnish.report.charts.bars import Bar, Row, rows
from burnish.report.charts.points import Point, points
from burnish.report.numbers import milliseconds, size, small

MOST_GROUPS = 40
MOST_OUTPUTS = 100
"""Rows that are shown; past keys and values can be hundreds."""

POINT = "point"
"""What a search chooses among."""

Report = dict[str, Any]


def fidelity(report: Report) -> dict[str, Any] | None:
    """Loss by group, and errors by output."""
    facts = report.get("fidelity")
    if not facts:
        return None
    outputs = [
        {
            "name": name,
            "rel_l2": small(item["rel_l2"]),
            "cosine": "" if item.get("cosine") is None else f"{item['cosine']:.5f}",
            "max_abs": small(item.get("max_abs")),
            "top1": "" if item.get("top1") is None else f"{item['top1']:.4f}",
        }
        for name, item in facts["outputs"].items()
    ]
    return {
        "metric": facts["metric"][:1].upper() + facts["metric"][1:].rstrip(","),
        "drop": small(facts["drop"]),
        "budget": small(facts["budget"]) if facts.get("budget") is not None else "",
        "feeds": facts["feeds"],
        "count": facts["count"],
        "made_up": facts["feeds"] == "on made-up inputs",
        "groups": _groups(facts),
        "outputs": outputs[:MOST_OUTPUTS],
        "more": max(0, len(outputs) - MOST_OUTPUTS),
        "choices": any(row["top1"] for row in outputs),
    }


def _groups(facts: Mapping[str, Any]) -> Markup | None:
    known = {name: 1.0 if drop is None else drop for name, drop in facts.get("groups", {}).items()}
    groups = sorted(known.items(), key=lambda item: -item[1])
    if not groups:
        return None
    budget = facts.get("budget") or 0.0
    most = max(*(drop for _, drop in groups), budget) or 1.0
    items = [
        Row(
            name or "no group",
            small(drop),
            (Bar(0, drop / most, "loss" if budget and drop > budget else "after"),),
        )
        for name, drop in groups[:MOST_GROUPS]
    ]
    if budget:
        items.append(Row("allowed", small(budget), (Bar(0, budget / most, "before"),)))
    description = ", ".join(f"{item.name} {item.value}" for item in items)
    return rows("Loss by group, the worst first", description, items)


def choices(report: Report) -> dict[str, Any] | None:
    """What was compiled to choose from, as points, and why each was taken or not.

    Precisions were timed against each other; the points of a search against the input.
    """
    searched: Sequence[Mapping[str, Any]] = report.get("points") or []
    found: Sequence[Mapping[str, Any]] = searched or report.get("precisions") or []
    if not found:
        return None
    title, word = ("Search", POINT) if searched else ("Precisions", "precision")
    plot = _plane(found, word)
    return {"title": title, "word": word, "plot": plot, "rows": [_precision(row) for row in found]}


def _precision(row: Mapping[str, Any]) -> dict[str, str]:
    marks = {"chosen": row["chosen"], "on the Pareto front": row["pareto"]}
    low, high = row["ci95"] or (None, None)
    ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else ""
    if low is not None:
        ratio += f" ({low:.2f} to {high:.2f})"
    return {
        "name": row["name"],
        "marks": ", ".join(name for name, holds in marks.items() if holds),
        "drop": "" if row["drop"] is None else small(row["drop"]),
        "bytes": "" if row["bytes"] is None else size(row["bytes"]),
        "ms": "" if row["ms"] is None else milliseconds(row["ms"]),
        "ratio": ratio,
        "reason": row["reason"],
    }


def _plane(found: Sequence[Mapping[str, Any]], word: str) -> Markup | None:
    """Time to the right (size where nothing was timed), loss upwards, size as area.

    The points of a search were each timed against the input, at different times of the day.
    """
    known = [row for row in found if row["drop"] is not None and row["bytes"] is not None]
    if len(known) < 2:
        return None
    told: Callable[[float], str] = _hundredths
    if word == POINT:
        axis = "time of a run, of the input's"
        places = [1.0 / row["ratio"] if row["ratio"] else 0.0 for row in known]
    elif all(row["ms"] is not None for row in known):
        axis, told, places = "time of a run", milliseconds, [row["ms"] for row in known]
    else:
        axis, told, places = "size", size, [row["bytes"] for row in known]
    largest = max(row["bytes"] for row in known) or 1
    items = [
        Point(
            f"{row['name']}{' (chosen)' if row['chosen'] else ''}",
            place,
            row["drop"],
            row["bytes"] / largest,
            "chosen" if row["chosen"] else "front" if row["pareto"] else "behind",
            f"{row['name']}: {told(place)}, loss {small(row['drop'])}, {size(row['bytes'])}",
        )
        for row, place in zip(known, places, strict=True)
    ]
    description = "; ".join(item.note for item in items)
    return points(f"Loss over {axis}, by {word}", description, items, (axis, "loss"), told)


def _hundredths(share: float) -> str:
    return f"{share:.2f}"


def providers(report: Report) -> list[dict[str, str]]:
    """The providers that were weighed."""
    told = []
    for row in report.get("providers") or []:
        low, high = row["ci95"] or (row["ratio"], row["ratio"])
        ratio = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})" if row["ratio"] is not None else ""
        told.append(
            {
                "name": f"{row['name']} {row['version']}".strip(),
                "marks": "chosen" if row["chosen"] else "",
                "ms": "" if row["ms"] is None else milliseconds(row["ms"]),
                "ratio": ratio,
                "reason": row["reason"],
            }
        )
    return told
