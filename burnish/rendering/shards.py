"""A model split over ranks as tables for a terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.rendering.report import safe, size

MOST = 8
"""Rows of what stays whole; the largest first."""


def render_shards(console: Console, facts: dict[str, Any]) -> None:
    """What a rank has, where ranks meet, and what stays whole on each."""
    ranks = facts["ranks"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, side in (("", "left"), ("whole", "right"), ("a rank", "right"), ("", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    weights, mine = facts["weights_bytes"], facts["rank_weights_bytes"]
    table.add_row("weights", size(weights), size(mine), _share(mine, weights))
    table.add_row(
        "products", _flops(facts["flops"]), _flops(facts["rank_flops"]),
        _share(facts["rank_flops"], facts["flops"]),
    )  # fmt: skip
    console.print(table)
    console.print()
    for line in _lines(facts):
        console.print(line, highlight=False, soft_wrap=True)
    if facts["whole"]:
        console.print()
        console.print(_whole(facts["whole"]))
    if facts.get("output"):
        error = "not compared" if facts["error"] is None else f"error {facts['error']:.1e}"
        line = f"{safe(facts['output'])}: {ranks} ranks, {error} against the whole"
        console.print(line, highlight=False, soft_wrap=True)


def _lines(facts: dict[str, Any]) -> list[str]:
    shape = ", ".join(f"{safe(name)} {count}" for name, count in facts["shape"].items())
    reduced, gathered = facts["reduced"], facts["gathered"]
    lines = [
        f"{facts['ranks']} ranks meet {len(reduced) + len(gathered)} times in a run, at {shape}: "
        f"{len(reduced)} sums of {size(sum(reduced.values()))}, "
        f"{len(gathered)} gathered of {size(sum(gathered.values()))}"
    ]
    if facts["split_ports"]:
        names = ", ".join(safe(name, 28) for name in facts["split_ports"][:MOST])
        more = len(facts["split_ports"]) - MOST
        lines.append(f"ports in parts: {names}" + (f" and {more} more" if more > 0 else ""))
    for reason in dict.fromkeys(facts["refused"].values()):
        places = [safe(name, 40) for name, why in facts["refused"].items() if why == reason]
        others = f" and {len(places) - 1} more" if len(places) > 1 else ""
        lines.append(f"not by heads or groups: {places[0]}{others}: {reason}")
    return lines


def _whole(rows: list[dict[str, Any]]) -> Table:
    """Weights that are whole on each rank, those of one reason together."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["reason"]].append(row)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("whole on each rank")
    table.add_column("bytes", justify="right")
    table.add_column("why")
    order = sorted(groups.items(), key=lambda item: -sum(row["bytes"] for row in item[1]))
    for reason, items in order[:MOST]:
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        total = size(sum(row["bytes"] for row in items))
        table.add_row(safe(items[0]["weight"], 40) + more, total, safe(reason))
    return table


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""


def _flops(value: float) -> str:
    return f"{value / 1e9:.2f} GFLOP"
