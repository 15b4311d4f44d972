"""How graphs compute with sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import onnx_ir as ir

from burnish.optimizer.analysis.monomials import (
    ONE,
    Extent,
    Sizes,
    divided,
    number,
    product,
    symbol,
    written,
)

FAR = 1 << 30
"""A position past the end of any axis."""


class Facts(Protocol):
    """What is known so far; see `Dimensions`."""

    def of(self, value: ir.Value | None) -> Sizes | None:
        """The shape of a value."""

    def elements(self, value: ir.Value | None) -> Sizes | None:
        """What a short vector of integers holds."""


def integers(value: ir.Value | None, facts: Facts) -> list[int] | None:
    """The numbers in a vector, where all are known."""
    held = facts.elements(value)
    numbers = [number(item) for item in held] if held is not None else [None]
    return None if None in numbers else [item for item in numbers if item is not None]


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """An input that may be left out."""
    return node.inputs[index] if len(node.inputs) > index else None


def axes_of(node: ir.Node, facts: Facts, index: int = 1) -> list[int] | None:
    """The axes a node names by an input or, in older operator sets, by an attribute."""
    if optional(node, index) is not None:
        return integers(node.inputs[index], facts)
    axes = node.attributes.get_ints("axes", None)
    return list(axes) if axes is not None else None


def elements(node: ir.Node, facts: Facts) -> Sizes | None:
    """What the result of shape arithmetic holds; None where that is not known."""
    kind = node.op_type
    if kind == "Shape":
        shape = facts.of(node.inputs[0])
        if shape is None:
            return None
        end = node.attributes.get_int("end", len(shape))
        return shape[node.attributes.get_int("start", 0) : end]
    if kind in ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"):
        return facts.elements(node.inputs[0])
    if kind == "ConstantOfShape":
        return _filled(node, facts)
    if kind not in ("Concat", "Gather", "Slice", "Equal", "Where", *ARITHMETIC):
        return None
    parts = [facts.elements(value) for value in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not all(known):
        return None
    if kind == "Concat":
        return tuple(item for part in known for item in part)
    if kind in ("Gather", "Slice"):
        return _part(known, kind)
    length = max(map(len, known))
    if any(len(part) not in (1, length) for part in known):
        return None
    return _each(kind, [part * (length // len(part)) for part in known])


def _filled(node: ir.Node, facts: Facts) -> Sizes | None:
    count = integers(node.inputs[0], facts)
    fill = node.attributes.get_tensor("value", None)
    if not count or len(count) != 1 or count[0] > 16:
        return None
    return ((int(fill.numpy().reshape(-1)[0]) if fill is not None else 0, ()),) * count[0]


def _part(parts: list[Sizes], kind: str) -> Sizes | None:
    whole, *rest = parts
    numbers = [[number(item) for item in part] for part in rest]
    if any(item is None for part in numbers for item in part):
        return None
    indices = [[item for item in part if item is not None] for part in numbers]
    if kind == "Gather":
        if not all(-len(whole) <= index < len(whole) for index in indices[0]):
            return None
        return tuple(whole[index] for index in indices[0])
    if len(indices) > 2 and indices[2] not in ([0], [-1]):
        return None
    return whole[indices[0][0] : indices[1][0] : indices[3][0] if len(indices) > 3 else 1]


def _each(kind: str, parts: list[Sizes]) -> Sizes | None:
    if kind == "Where":
        tests = [number(item) for item in parts[0]]
        if None in tests:
            return None
        pairs = zip(tests, parts[1], parts[2], strict=True)
        return tuple(yes if test else no for test, yes, no in pairs)
    found = [ARITHMETIC[kind](one, other) for one, other in zip(*parts, strict=True)]
    return None if None in found else tuple(item for item in found if item is not None)


def added(first: Extent, second: Extent, sign: int = 1) -> Extent:
    """The sum of two sizes, or their difference."""
    one, other = number(first), number(second)
    if one is not None and other is not None:
        return one + sign * other, ()
    if other == 0:
        return first
    if one == 0 and sign == 1:
        return second
    parts = [written(first), written(second)]
    return symbol(f"({'+-'[sign < 0].join(sorted(parts) if sign == 1 else parts)})")


def _quotient(first: Extent, second: Extent) -> Extent:
    exact = divided(first, second)
    return exact if exact is not None else symbol(f"({written(first)}/{written(second)})")


def _equal(first: Extent, second: Extent) -> Extent | None:
    one, other = number(first), number(second)
    if one is not None and other is not None:
        return int(one == other), ()
    computed = any("(" in name for name in (*first[1], *second[1]))
    if not computed and ((one is not None and one < 0) or (other is not None and other < 0)):
        return 0, ()  # a size is no negative number
    return ONE if first == second else None


ARITHMETIC: dict[str, Callable[[Extent, Extent], Extent | None]] = {
    "Add": added,
    "Sub": lambda first, second: added(first, second, -1),
    "Mul": lambda first, second: product((first, second)),
    "Div": _quotient,
    "Equal": _equal,
}
