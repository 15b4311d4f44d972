"""What came of a distillation, for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.rendering.report import safe, size

NAMES = {
    "fidelity": "fidelity", "loss": "loss", "logits": "of answers", "hidden": "of states",
    "relations": "of attentions",
}  # fmt: skip
"""Of the rows, in their order."""


def render_distill(console: Console, facts: dict[str, Any]) -> None:
    """Sizes, losses on what was held out before and after, and how long it took."""
    student, training, losses = facts["student"], facts["training"], facts["losses"]
    share = student["parameters"] / max(student["teacher_parameters"], 1)
    console.print(
        f"{safe(facts['output']['path'])}: {size(facts['output']['bytes'])}, "
        f"{student['parameters']:,} parameters, {share:.2f} of the teacher's",
        soft_wrap=True,
    )
    if (masked := student["masked"])["matrices"]:
        console.print(
            f"{masked['matrices']} matrices keep their zeros, {masked['zeros']:,} in all",
            soft_wrap=True,
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("held out")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    for key, name in NAMES.items():
        if key in losses["before"]:
            table.add_row(name, *(f"{losses[side][key]:.4f}" for side in ("before", "after")))
    console.print(table)
    console.print(
        f"{training['ended']}: {training['steps']} steps in {training['seconds']:.0f} s, "
        f"{training['passes']:.2f} passes over {training['texts']} texts; best at step "
        f"{training['best_step']}",
        soft_wrap=True,
    )
    for note in facts["warnings"]:
        console.print(f"[yellow]note[/yellow] {safe(note, 300)}", soft_wrap=True)
