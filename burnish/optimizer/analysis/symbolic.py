"""Arithmetic on sizes, which are numbers or symbols, and on vectors of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

Size = int | str
"""A number, or a symbol: equal symbols of one model are equal sizes."""


def computed(node: ir.Node, parts: list[list[Size | None]]) -> list[Size | None] | None:
    """What a node computes from vectors of sizes; None where that is not followed."""
    operator = node.op_type
    if operator == "Gather" and node.attributes.get_int("axis", 0) == 0:
        whole = parts[0]
        valid = all(isinstance(i, int) and -len(whole) <= i < len(whole) for i in parts[1])
        return [whole[i] for i in parts[1] if isinstance(i, int)] if valid else None
    if operator == "Slice":
        bounds = [number for part in parts[1:] for number in part[:1] if isinstance(number, int)]
        step = bounds[3] if len(bounds) > 3 else 1
        return parts[0][bounds[0] : bounds[1] : step] if len(bounds) == len(parts) - 1 else None
    arithmetic = {
        "Add": total, "Mul": times, "Sub": less, "Div": over, "Equal": equal, "Where": either,
    }.get(operator)  # fmt: skip
    if arithmetic is not None:
        count = max(len(part) for part in parts)
        wide = [part * count if len(part) == 1 else part for part in parts]
        if all(len(part) == count for part in wide):
            return [arithmetic(list(items)) for items in zip(*wide, strict=True)]
    return None


def _numbers(parts: Sequence[Size | None]) -> list[int] | None:
    numbers = [part for part in parts if isinstance(part, int)]
    return numbers if len(numbers) == len(parts) else None


def total(parts: Sequence[Size | None]) -> Size | None:
    """Their sum; None where one is not known."""
    if (numbers := _numbers(parts)) is not None:
        return sum(numbers)
    if None in parts:
        return None
    return " + ".join(sorted(str(part) for part in parts if part != 0))


def times(parts: Sequence[Size | None]) -> Size | None:
    """Their product; None where one is not known."""
    if (numbers := _numbers(parts)) is not None:
        return math.prod(numbers)
    if None in parts:
        return None
    rest = sorted(str(part) for part in parts if part != 1)
    return rest[0] if len(rest) == 1 else "*".join(rest)


def less(parts: Sequence[Size | None]) -> Size | None:
    """The first without the second; None where that has no simple symbol."""
    first, second = parts
    if isinstance(first, int) and isinstance(second, int):
        return first - second
    return first if second == 0 else None


def equal(parts: Sequence[Size | None]) -> Size | None:
    """1 or 0 where that is certain; no size is negative."""
    first, second = parts
    if first is not None and first == second:
        return 1
    numbers = [part for part in parts if isinstance(part, int)]
    return 0 if len(numbers) == 2 or (numbers and numbers[0] < 0 and None not in parts) else None


def either(parts: Sequence[Size | None]) -> Size | None:
    """The second or the third, as the first says."""
    condition, first, second = parts
    return first if condition == 1 else second if condition == 0 else None


def over(parts: Sequence[Size | None]) -> Size | None:
    """The first divided by the second; None where that has no simple symbol."""
    first, second = parts
    if isinstance(first, int) and isinstance(second, int) and second:
        return first // second
    return first if second == 1 else None


def quotient(source: list[Size | None] | None, rest: list[Size | None]) -> Size | None:
    """What an axis of -1 stands for: the source's elements over those of the other axes."""
    if source is None or None in source or None in rest:
        return None
    above, symbols = _factors(source)
    below, divisors = _factors(rest)
    for symbol in divisors:
        if symbol not in symbols:
            return None
        symbols.remove(symbol)
    if below == 0 or above % below:
        return None
    return times([*symbols, above // below])


def _factors(sizes: Sequence[Size | None]) -> tuple[int, list[str]]:
    """The product of the numbers among sizes, and the symbols, those in products apart."""
    parts = [part for size in sizes for part in str(size).split("*")]
    numbers = [int(part) for part in parts if part.isdecimal()]
    return math.prod(numbers), [part for part in parts if not part.isdecimal()]


def sliced(
    size: Size | None, start: Size | None, end: Size | None, step: Size | None
) -> Size | None:
    """How many elements a slice of an axis has; None where that is not known."""
    if start == 0 and step == 1 and (end == size or (isinstance(end, int) and end > 1 << 30)):
        return size
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(step, int):
        return end if start == 0 and step == 1 and isinstance(end, str) and size is None else None
    if isinstance(size, int) and step:
        return len(range(size)[start:end:step])
    return None
