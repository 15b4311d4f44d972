"""Reports to look at: one self-contained page of HTML, rendered from a report as data alone.

    page(report)        the whole page, of the main job's report or of what `inspect` tells
    fragment(report)    the same for a notebook
    write(report, path) the page as a file, whole or not at all
    require(what)       raise where the extra that draws it is not installed

The modules that draw are imported on demand: they need the extra `report` (jinja2 and svg.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UsageError

__all__ = ["fragment", "page", "require", "write"]

LIBRARIES = ("jinja2", "svg")
"""What the extra brings, by the names that Python imports."""

Report = Mapping[str, Any]


def require(what: str) -> None:
    """Raise UsageError where what draws reports is not installed."""
    if not _installed():
        raise UsageError(f"{what} needs jinja2 and svg.py", hint="pip install 'burnish[report]'")


def page(report: Report) -> str:
    """The page of a report (JSON schema 1).

    Raises:
        UsageError: the extra is not installed, or this is no such report.
    """
    require("a report to look at")
    from burnish.report.pages import page as drawn

    return drawn(report)


def fragment(report: Report) -> str | None:
    """The report as an element for a notebook; None where it cannot be drawn."""
    if not _installed():
        return None
    from burnish.report.pages import fragment as drawn

    try:
        return drawn(report)
    except UsageError:  # of a kind that has no page
        return None


def write(report: Report, path: Path) -> None:
    """Write the page so that `path` is at every moment absent, old, or new and whole.

    Raises:
        UsageError: see `page`.
        StorageError: writing failed; nothing is left behind.
    """
    from burnish.optimizer.saving import write_text

    write_text(path, page(report))


def _installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in LIBRARIES)
