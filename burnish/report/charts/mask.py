"""The picture of a mask: queries downwards, keys to the right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import svg
from markupsafe import Markup

from burnish.report.charts.drawing import label

MOST = 64
"""Rows and columns that are drawn."""


def mask(title: str, description: str, rows: Sequence[str], *, padded: bool) -> Markup:
    """A square for each row of 1 (seen) and 0 (hidden); neighbours that are alike are one.

    With `padded` the last fifth of the keys is shown as an example of padding.
    """
    grid = [row[:MOST] for row in rows[:MOST]]
    width = max((len(row) for row in grid), default=1)
    first = width - width // 5 if padded else width
    elements: list[svg.Element] = [
        svg.Title(text=label(title, 200)),
        svg.Desc(text=label(description, 600)),
        svg.Rect(x=0, y=0, width=width, height=len(grid), class_=["hidden"]),
    ]
    for y, row in enumerate(grid):
        x = 0
        cells = [(cell == "1") + (cell == "1" and place >= first) for place, cell in enumerate(row)]
        for kind, run in groupby(cells):
            length = len(list(run))
            if kind:
                name = ("seen", "padding")[kind - 1]
                elements.append(svg.Rect(x=x, y=y, width=length, height=1, class_=[name]))
            x += length
    drawing = svg.SVG(
        viewBox=svg.ViewBoxSpec(0, 0, width, max(len(grid), 1)),
        class_=["mask"],
        elements=elements,
        extra={"role": "img", "aria-label": label(title, 200), "shape-rendering": "crispEdges"},
    )
    return Markup(drawing.as_str())
