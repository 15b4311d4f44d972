"""The page: a view of the report as data, put into the templates.

Text from a model reaches the page through two doors only. In the templates every string is made
printable and escaped; in plots `charts.drawing.label` does both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from burnish.optimizer.errors import UsageError, printable
from burnish.report import inspection, result
from burnish.report.numbers import counted, finite

FOLDER = Path(__file__).parent / "templates"

LONGEST = 400
"""Characters of one text from a report; a model may call a node anything."""

SCHEMA = 1

MALFORMED = (
    ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError,
)  # fmt: skip
"""What reading a report raises that is none."""

Report = Mapping[str, Any]


def page(report: Report) -> str:
    """The page of a report; see `burnish.report.page`."""
    return _render("page.html", report)


def fragment(report: Report) -> str:
    """The report as one element, whose style reaches nothing outside of it."""
    return _render("fragment.html", report)


@functools.cache
def style() -> Markup:
    """The style of every page, for an element of the class `burnish` and what is in it."""
    return Markup((FOLDER / "style.css").read_text())


@functools.cache
def environment() -> Environment:
    """Templates in which every string that is not markup is made printable, then escaped."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["counted"] = counted
    return made


def _shown(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, LONGEST)
    return value


def _render(name: str, report: Report) -> str:
    if report.get("schema") != SCHEMA:
        raise UsageError(f"no report of schema {SCHEMA}", hint="one that --json wrote")
    try:
        view = _view(finite(dict(report)))
        return environment().get_template(name).render(view=view, style=style())
    except MALFORMED as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"no report that can be shown ({printable(what, 120)})", hint="one that --json wrote"
        ) from None


def _view(report: dict[str, Any]) -> dict[str, Any]:
    if "producer" in report:
        return inspection.view(report)
    return result.view(report)
