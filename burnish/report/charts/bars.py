"""Rows of bars: a name and a value, and one or several bars under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import svg
from markupsafe import Markup

from burnish.report.charts.drawing import label, percent, plot, words

TEXT, GAP, FOOT = 15.0, 6.0, 14.0
"""Pixels from a row's top to its words' feet, from those to its bars, and below these."""

LEAST = 0.004
"""Share of the width that the thinnest bar takes, so that it is seen at all."""


@dataclass(frozen=True)
class Bar:
    """From one share of the scale to another; `kind` is its class in the page's style."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class Row:
    """A name at the left, a value at the right, and bars below; `note` is said on hovering."""

    name: str
    value: str
    bars: tuple[Bar, ...]
    note: str = ""


def rows(title: str, description: str, items: Sequence[Row], *, joined: bool = False) -> Markup:
    """Rows under each other; `joined` draws a line from where a bar ends to the next one."""
    thick = 10.0 if all(len(item.bars) < 2 for item in items) else 7.0
    elements: list[svg.Element] = []
    top = 0.0
    last: tuple[float, float] | None = None
    for item in items:
        start = top + TEXT + GAP
        parts: list[svg.Element] = [
            words(item.name, 0, top + TEXT - 3, "name halo", limit=44),
            words(item.value, percent(1), top + TEXT - 3, "value halo", anchor="end", limit=40),
            svg.Rect(
                x=0, y=start, width=percent(1), height=_height(item, thick), rx=2, class_=["track"]
            ),
        ]
        if item.note:
            parts.insert(0, svg.Title(text=label(item.note, 300)))
        for number, bar in enumerate(item.bars):
            parts.append(_drawn(bar, start + number * (thick + 1), thick))
        if joined and item.bars:
            if last is not None:
                x = percent(last[0])
                elements.append(svg.Line(x1=x, x2=x, y1=last[1], y2=start, class_=["join"]))
            last = (item.bars[-1].end, start + thick)
        elements.append(svg.G(elements=parts))
        top = start + _height(item, thick) + FOOT
    return plot(title, description, max(top - FOOT + 2, 1), elements, "bars")


def _height(item: Row, thick: float) -> float:
    count = max(1, len(item.bars))
    return count * thick + count - 1


def _drawn(bar: Bar, y: float, thick: float) -> svg.Rect:
    low, high = sorted((min(max(bar.start, 0.0), 1.0), min(max(bar.end, 0.0), 1.0)))
    if 0 < high - low < LEAST or (high == low and bar.kind == "noise"):
        high = min(low + LEAST, 1.0)
        low = high - LEAST
    return svg.Rect(
        x=percent(low), y=y, width=percent(high - low), height=thick, rx=2, class_=bar.kind.split()
    )
