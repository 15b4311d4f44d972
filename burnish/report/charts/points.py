"""Points in a plane, with their names: what a choice between precisions was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import svg
from markupsafe import Markup

from burnish.report.charts.drawing import Logarithmic, label, percent, plot, rounded, ticks, words

HEIGHT, TOP, BOTTOM = 250.0, 26.0, 40.0
"""Pixels of the plane, above it, and below it for numbers and the axis's name."""

ROOM = 1.12
"""The scale goes on past the last point by this factor."""

LINE = 17.0
"""Pixels between two names that would else lie on each other."""


@dataclass(frozen=True)
class Point:
    """A place in the plane; `size` from 0 to 1 is told by its area."""

    name: str
    x: float
    y: float
    size: float
    kind: str
    note: str = ""


def points(
    title: str,
    description: str,
    items: Sequence[Point],
    axes: tuple[str, str],
    told: Callable[[float], str],
) -> Markup:
    """Points over a scale from 0 (to the right) and a logarithmic one (upwards).

    Args:
        title: for those who listen.
        description: likewise.
        items: in any order.
        axes: names of the two.
        told: how the numbers to the right are written.
    """
    most = max((item.x for item in items), default=1.0) * ROOM or 1.0
    scale = Logarithmic([item.y for item in items])
    elements = _grid(most, scale, axes, told)
    used: list[tuple[float, float]] = []
    for item in sorted(items, key=lambda item: -item.y):
        x, y = item.x / most, TOP + HEIGHT * (1 - scale.share(item.y))
        radius = 5 + 11 * item.size**0.5
        left = x > 0.55
        place = _free(used, x, y)
        used.append((x, place))
        dx = -(radius + 6) if left else radius + 6
        parts: list[svg.Element] = [svg.Title(text=label(item.note, 300))] if item.note else []
        parts += [
            svg.Circle(cx=percent(x), cy=round(y, 1), r=round(radius, 1), class_=item.kind.split()),
            words(
                item.name, percent(x), place + 4, "name halo",
                anchor="end" if left else "start", dx=round(dx, 1), limit=60,
            ),
        ]  # fmt: skip
        elements.append(svg.G(elements=parts))
    return plot(title, description, TOP + HEIGHT + BOTTOM, elements, "points gutter")


def _free(used: Sequence[tuple[float, float]], x: float, y: float) -> float:
    """A height for a name near `y` where there is none yet, below it if need be."""
    while any(abs(y - other) < LINE and abs(x - at) < 0.5 for at, other in used):
        y += LINE / 2
    return y


def _grid(
    most: float, scale: Logarithmic, axes: tuple[str, str], told: Callable[[float], str]
) -> list[svg.Element]:
    across, up = axes
    bottom = TOP + HEIGHT
    elements: list[svg.Element] = [words(up, 0, 12, "axis strong")]
    for power in scale.decades():
        y = round(TOP + HEIGHT * (1 - scale.share(10.0**power)), 1)
        elements.append(svg.Line(x1=0, x2=percent(1), y1=y, y2=y, class_=["grid"]))
        elements.append(words(f"1e{power}", -8, y + 4, "axis", anchor="end"))
    elements.append(svg.Line(x1=0, x2=percent(1), y1=bottom, y2=bottom, class_=["base"]))
    elements.append(words("0", -8, bottom + 4, "axis", anchor="end"))
    for item in ticks(most, 3)[1:]:
        x = percent(item / most)
        elements.append(svg.Line(x1=x, x2=x, y1=bottom, y2=bottom + 5, class_=["base"]))
        elements.append(words(rounded(told(item)), x, bottom + 18, "axis", anchor="middle"))
    elements.append(words(across, percent(1), bottom + 36, "axis strong", anchor="end"))
    return elements
