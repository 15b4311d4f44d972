"""What every plot is made of: escaped text, places as percentages, and a name for those who listen.

svg.py writes what it is given as it is: text from a model goes through `label` and nothing else.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

import svg
from markupsafe import Markup

from burnish.optimizer.errors import printable


def label(text: object, limit: int = 48) -> str:
    """Text for an element of a plot: without control and format characters, escaped, bounded."""
    return html.escape(printable(str(text), limit), quote=True)


def percent(share: float) -> svg.Length:
    """A share of the width."""
    return svg.Length(round(100 * min(max(share, 0.0), 1.0), 3), "%")


def plot(
    title: str, description: str, height: float, elements: Sequence[svg.Element], kind: str = ""
) -> Markup:
    """A plot as wide as its place, with a name and a description for screen readers."""
    named: list[svg.Element] = [
        svg.Title(text=label(title, 200)),
        svg.Desc(text=label(description, 600)),
    ]
    drawing = svg.SVG(
        width=svg.Length(100, "%"),
        height=round(height, 1),
        class_=["plot", *kind.split()],
        elements=[*named, *elements],
        extra={"role": "img", "aria-label": label(title, 200)},
    )
    return Markup(drawing.as_str())


def words(
    text: object,
    x: svg.Length | float,
    y: float,
    kind: str = "",
    *,
    anchor: str = "start",
    limit: int = 48,
    dx: float | None = None,
) -> svg.Text:
    """A line of text at a place."""
    return svg.Text(
        text=label(text, limit),
        x=x,
        y=round(y, 1),
        dx=dx,
        text_anchor=anchor,  # type: ignore[arg-type]
        class_=kind.split() or None,
    )


def ticks(most: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to about `most`, with `count` steps or so between them."""
    if most <= 0 or not math.isfinite(most):
        return [0.0]
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    return [step * number for number in range(math.floor(most / step * (1 + 1e-9)) + 1)]


def rounded(text: str) -> str:
    """A round number as it is told, without its zeros behind the point: "50.0 ms" is "50 ms"."""
    return re.sub(r"(\.\d*?)0+(?= |$)", r"\1", text).replace(". ", " ").rstrip(".")


class Logarithmic:
    """Shares of a logarithmic scale, of which 0 is the bottom.

    Args:
        numbers: what it has to hold; zeros do not count.
    """

    def __init__(self, numbers: Sequence[float]) -> None:
        known = [math.log10(item) for item in numbers if item > 0 and math.isfinite(item)]
        self.low = math.floor(min(known, default=-8.0)) - 1
        self.high = max(math.ceil(max(known, default=-1.0)), self.low + 2)

    def share(self, number: float) -> float:
        """Where a number is, from 0 to 1."""
        if number <= 0:
            return 0.0
        if not math.isfinite(number):
            return 1.0
        return (math.log10(number) - self.low) / (self.high - self.low)

    def decades(self, most: int = 5) -> list[int]:
        """Exponents to mark, above the bottom, a few of them."""
        step = max(1, math.ceil((self.high - self.low) / most))
        return list(range(self.high, self.low, -step))
