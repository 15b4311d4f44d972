"""Forecasts of plans for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.rendering.report import safe
from burnish.rendering.times import seconds

ROWS = 24
"""Devices and links that are shown."""


def render_simulation(console: Console, facts: dict[str, Any]) -> None:
    """Throughput and latency, then who works how much, those that work most first."""
    replicas = len(facts["replicas"])
    console.print(
        f"{facts['throughput']:.2f} feeds a second; {seconds(facts['latency_seconds'])} from end "
        f"to end, {seconds(facts['latency_99_seconds'])} at the 99th percentile",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"{safe(facts['binds'])} binds", highlight=False, soft_wrap=True)
    if (up := facts["availability"]) is not None:
        console.print(
            f"with failures {facts['throughput_with_failures']:.2f} feeds a second: "
            f"{100 * up['up']:.3f} % of {replicas} replicas are up, all of them "
            f"{100 * up['whole']:.2f} % of the time",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device or link")
    table.add_column("works", justify="right")
    table.add_column("idle", justify="right")
    rows = sorted(facts["busy"].items(), key=lambda row: -row[1])
    for name, share in rows[:ROWS]:
        table.add_row(safe(name, 40), f"{100 * share:.1f} %", f"{100 * facts['idle'][name]:.1f} %")
    console.print()
    console.print(table)
    if len(rows) > ROWS:
        console.print(f"and {len(rows) - ROWS} more, which work less")
