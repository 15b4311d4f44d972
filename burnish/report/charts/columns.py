"""Columns side by side, in groups, over one scale: layers of a model, say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import svg
from markupsafe import Markup

from burnish.report.charts.drawing import Logarithmic, label, percent, plot, rounded, ticks, words

HEIGHT, TOP, BOTTOM = 150.0, 18.0, 22.0
"""Pixels of the scale, above it, and below it for names."""

MOST_NAMES = 12
"""Names below the columns; of more groups some go without."""


@dataclass(frozen=True)
class Group:
    """Columns that belong together; None for a value that is not known."""

    name: str
    values: tuple[float | None, ...]
    note: str = ""


def columns(
    title: str,
    description: str,
    groups: Sequence[Group],
    kinds: Sequence[str],
    told: Callable[[float], str],
    *,
    logarithmic: bool = False,
) -> Markup:
    """Groups of columns, one of each kind (a class in the page's style).

    Args:
        title: for those who listen.
        description: likewise.
        groups: from left to right.
        kinds: of the values of each group.
        told: how the scale's numbers are written.
        logarithmic: whether the scale is.
    """
    numbers = [item for group in groups for item in group.values if item is not None]
    finite = [item for item in numbers if math.isfinite(item)]
    elements, share = _scale(finite, told, logarithmic)
    slot = 1.0 / max(len(groups), 1)
    every = math.ceil(len(groups) / MOST_NAMES)
    for index, group in enumerate(groups):
        parts: list[svg.Element] = [svg.Title(text=label(group.note, 300))] if group.note else []
        width = 0.8 * slot / len(kinds)
        for place, (value, kind) in enumerate(zip(group.values, kinds, strict=True)):
            if value is not None:
                x = (index + 0.1) * slot + place * width
                parts.append(_column(x, 0.92 * width, share(value), kind))
        elements.append(svg.G(elements=parts))
        if index % every == 0 or (index == len(groups) - 1 and every < 3):
            middle = percent((index + 0.5) * slot)
            y = TOP + HEIGHT + 16
            elements.append(words(group.name, middle, y, "axis", anchor="middle", limit=10))
    return plot(title, description, TOP + HEIGHT + BOTTOM, elements, "columns gutter")


def _column(x: float, width: float, share: float, kind: str) -> svg.Rect:
    """A column from the ground up; one of next to nothing is still seen."""
    tall = max(HEIGHT * share, 1.5)
    return svg.Rect(
        x=percent(x),
        y=round(TOP + HEIGHT - tall, 1),
        width=percent(width),
        height=round(tall, 1),
        rx=1.5,
        class_=[kind],
    )


def _scale(
    numbers: Sequence[float], told: Callable[[float], str], logarithmic: bool
) -> tuple[list[svg.Element], Callable[[float], float]]:
    """Lines with their numbers, and where a number is."""
    if logarithmic:
        scale = Logarithmic(numbers)
        marks = [(scale.share(10.0**power), f"1e{power}") for power in scale.decades()]
        share: Callable[[float], float] = scale.share
    else:
        most = max(numbers, default=0.0) or 1.0
        marks = [(item / most, rounded(told(item))) for item in ticks(most)[1:]]

        def share(number: float) -> float:
            return min(max(number / most, 0.0), 1.0) if math.isfinite(number) else 1.0

    elements: list[svg.Element] = []
    for place, text in [(0.0, ""), *marks]:
        y = round(TOP + HEIGHT * (1 - place), 1)
        kind = "grid" if place else "base"
        elements.append(svg.Line(x1=0, x2=percent(1), y1=y, y2=y, class_=[kind]))
        if text:
            elements.append(words(text, -8, y + 4, "axis", anchor="end"))
    return elements, share
