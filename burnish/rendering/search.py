"""A search for a terminal: its goals, its Pareto list as a table, and what else was tried."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from burnish.rendering.text import line, safe, size, table


def render_search(console: Console, report: dict[str, Any], verbose: bool) -> None:
    """The points of the Pareto list, the fastest first; all that were tried, if verbose."""
    search = report.get("search")
    if search is None:
        return
    points = report["points"]
    listed = [row for row in points if verbose or row["pareto"] or row["chosen"]]
    line(console, f"[bold]{_told(search)}[/bold]")
    made = table(
        ("point", "left"), ("speed-up", "right"), ("95 % interval", "right"), ("loss", "right"),
        ("size", "right"), ("precision", "left"), ("pruned", "right"), ("", "left"),
    )  # fmt: skip
    for row in listed:
        stands = row["drop"] is not None
        low, high = row["ci95"] or (None, None)
        made.add_row(
            safe(row["name"]), f"{row['ratio']:.2f}" if stands else "",
            "" if low is None else f"{low:.2f} to {high:.2f}",
            f"{row['drop']:.3g}" if stands else "",
            size(row["bytes"]) if stands else "", safe(row["precision"]),
            f"{row['prune']:.2f}" if row["prune"] else "", _note(row),
        )  # fmt: skip
    console.print(made)
    if len(listed) < len(points):
        left = len(points) - len(listed)
        told = "1 other point was" if left == 1 else f"{left} other points were"
        line(console, f"{told} tried (-v lists all)", style="dim")


def _told(search: dict[str, Any]) -> str:
    goals = f"--max-drop {search['max_drop']:g}"
    if search["speedup"] is not None:
        goals = f"--speedup {search['speedup']:g} within {goals}"
        goals += " is met" if search["met"] else " is not met"
    told = f"search: {goals}: {search['reached']:.2f} times by {search['chosen']}"
    known = f", {search['known']} of them known from before" if search["known"] else ""
    return safe(f"{told}; {search['tried']} points tried{known}", 300)


def _note(row: dict[str, Any]) -> str:
    marks = [name for name in ("chosen", "pareto") if row[name]]
    notes = [", ".join(marks).replace("pareto", "Pareto"), row["reason"]]
    if row["path"] and not row["chosen"]:
        notes.append(f"written to {row['path']}")
    return safe("; ".join(filter(None, notes)), 300)
