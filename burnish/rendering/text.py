"""What every page for a terminal is made of: lines, tables, sizes, text that is made safe."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from burnish.optimizer.errors import printable

MOST_LINES = 24
"""Lines of one kind that are shown without -v."""


def safe(text: object, limit: int = 120) -> str:
    """Text from a model or a path, without control characters and markup."""
    return escape(printable(str(text), limit))


def size(count: float) -> str:
    """Bytes in a unit one can read."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def line(console: Console, text: str, style: str | None = None) -> None:
    """A line of text, which the terminal may wrap where it likes; tables are fitted to it."""
    console.print(text, style=style, soft_wrap=True)


def texts(console: Console, lines: Iterable[str], verbose: bool = False) -> None:
    """Lines of plain text, which may hold names from a model; not too many of them."""
    told = list(lines)
    shown = told if verbose else told[:MOST_LINES]
    for text in shown:
        line(console, safe(text, 300))
    if len(shown) < len(told):
        line(console, f"  and {len(told) - len(shown)} more lines (all in --json)", style="dim")


def table(*columns: tuple[str, str]) -> Table:
    """A table without rules, whose columns have these names and sides."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in columns:
        made.add_column(name, justify=justify)  # type: ignore[arg-type]
    return made
