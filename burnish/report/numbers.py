"""Numbers as people read them."""

from __future__ import annotations

import math

from burnish.optimizer.report import finite as finite

MINUS = "\N{MINUS SIGN}"


def three(number: float) -> str:
    """A number of 0.1 or more with three figures, and no exponent."""
    if number >= 999.5:
        return f"{number:,.0f}"
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{places}f}"


def milliseconds(count: float) -> str:
    """A time, given in milliseconds."""
    if count >= 999.5:
        return f"{three(count / 1e3)} s"
    return f"{three(count)} ms" if count >= 0.9995 else f"{count * 1e3:.0f} \N{MICRO SIGN}s"


def size(count: float) -> str:
    """Bytes in a unit one can read."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * scale:
            return f"{three(count / scale)} {unit}"
    return f"{count:.0f} B"


def small(number: float | None) -> str:
    """A loss or an error: three figures, with an exponent where it is small."""
    if number is None or not math.isfinite(number):
        return "not finite"
    if number == 0:
        return "0"
    if abs(number) >= 1e-3:
        return f"{number:.3g}"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def change(text: str, *, up: bool) -> str:
    """An amount with the sign of a change."""
    return f"{'+' if up else MINUS}{text}"


def amount(flops: float) -> str:
    """Floating point operations in a unit one can read."""
    for unit, scale in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if flops >= 0.1 * scale:
            return f"{three(flops / scale)} {unit}"
    return f"{three(flops / 1e3)} kFLOP"


def counted(number: int, one: str, several: str = "") -> str:
    """So many of a thing: "1 place", "12 places"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
