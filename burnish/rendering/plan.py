"""Plans over devices as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.rendering.drawing import drawing, names
from burnish.rendering.plan_verdict import verdict
from burnish.rendering.report import safe, size
from burnish.rendering.times import seconds

WIDEST = 160
"""Characters of the longest line of a drawing."""


def render_plan(console: Console, facts: dict[str, Any]) -> None:
    """Stages, what is sent between them, and how far the plan may be from the best."""
    stages = facts["stages"]
    for line in _measured(facts["measured"]):
        console.print(line, highlight=False, soft_wrap=True)
    columns = ["stage", "device", "operators", "from", "to", "memory", "time", "sends", "in"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in ("device", "from", "to") else "right")
    for index, stage in enumerate(stages):
        sends = f"{len(stage['sends'])}: {_sent(stage)}" if stage["sends"] else ""
        took = seconds(stage["sends_seconds"]) if stage["sends"] else ""
        table.add_row(
            str(index + 1), names(stage["devices"], 24), str(stage["operators"]),
            safe(stage["first"], 28), safe(stage["last"], 28), size(stage["memory_bytes"]),
            seconds(stage["seconds"]), sends, took,
        )  # fmt: skip
    console.print(table)
    console.print()
    width = min(console.width, WIDEST)
    for line in drawing(facts["replicas"], width):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print()
    for line in verdict(facts):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if facts.get("output"):
        error = "not compared" if facts["error"] is None else f"error {facts['error']:.1e}"
        line = f"{safe(facts['output'])}: {len(stages)} stages, {error} against the whole"
        console.print(line, highlight=False, soft_wrap=True)
    for line in _wire(facts["wire"]):
        console.print(line, highlight=False, soft_wrap=True)
    for warning in facts["warnings"]:
        console.print(f"note {safe(warning)}", highlight=False, soft_wrap=True)
    if facts["loose"]:
        line = "note sizes of some values are not known, and count for nothing: --shape NAME=SIZE"
        console.print(line, highlight=False, soft_wrap=True)


def _measured(rows: list[dict[str, Any]]) -> list[str]:
    """What was measured of devices of this machine."""
    lines = []
    for row in rows:
        told = dict(row["calibration"])
        each = told.pop("operator", 0.0)
        factors = ", ".join(f"{kind} {factor:.2f}" for kind, factor in told.items())
        lines.append(
            f"{safe(row['device'])}: {row['flops'] / 1e9:.1f} GFLOP/s, "
            f"{row['bandwidth'] / 1e9:.1f} GB/s; times over those: {factors}; {seconds(each)} an "
            f"operator; {len(row['runs'])} runs within {100 * row['off']:.0f} %"
        )
    return lines


def _sent(stage: dict[str, Any]) -> str:
    """Bytes that a stage hands on, and how many they were."""
    whole, sent = stage["sends_bytes_whole"], stage["sends_bytes"]
    return size(sent) if sent == whole else f"{size(sent)} of {size(whole)}"


def _wire(wire: dict[str, Any]) -> list[str]:
    """How activations are sent, and what that costs."""
    cuts, losses = wire["cuts"], wire["losses"]
    if wire["asked"] == "float32" or not cuts:
        return []
    if set(cuts) == {"float32"} and not losses:
        why = "no link needs less" if wire["asked"] == "auto" else "no cut has any that may be less"
        return [f"activations are sent as they are: {why}"]
    drop = "not compared" if wire["drop"] is None else f"loss {wire['drop']:.2g}"
    lines = [f"activations are sent as {', '.join(cuts)} over cuts 1 to {len(cuts)}: {drop}"]
    if losses:
        told = ", ".join(f"{loss:.2g}" for loss in losses)
        lines.append(f"each cut by itself would cost {told} as was asked")
    return lines
