"""Tokens that are taken from every sequence at fixed positions: the first one, the last one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.tokens.layout import Layout
from burnish.optimizer.contract import Array

MOST = 8
"""Positions that a selection may take from each sequence."""


class Leak(Exception):
    """A place where padded rows would change a result, and why."""

    def __init__(self, node: ir.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = label(node)
        self.reason = reason


def cut(node: ir.Node, layout: Layout, index: int) -> tuple[Array, Array]:
    """The positions that a `Slice` takes along its axis number `index`, in both probes.

    Raises:
        Leak: where they are not known.
    """
    bounds = [layout.elements(value) for value in node.inputs[1:3]]
    steps = layout.constant(node.inputs[4]) if len(node.inputs) > 4 else np.ones(index + 1)
    starts, ends = bounds
    if starts is None or ends is None or steps is None or steps.reshape(-1)[index] != 1:
        raise Leak(node, "where it cuts is not known")
    first, second = (
        np.arange(length)[int(start.reshape(-1)[index]) : int(end.reshape(-1)[index])]
        for start, end, (_, length) in zip(starts, ends, layout.index(), strict=True)
    )
    return first, second


def positions(node: ir.Node, layout: Layout, places: tuple[Array, Array] | None) -> set[int]:
    """The positions, from the end where negative, that two probes' places stand for.

    Raises:
        Leak: where they are no few fixed ones.
    """
    if places is None:
        raise Leak(node, "it takes tokens at computed places")
    first, second = (array.reshape(-1).tolist() for array in places)
    if len(first) != len(second) or len(first) > MOST:
        raise Leak(node, "it takes a part of the tokens")
    (_, short), (_, long) = layout.index()
    found = set()
    for one, other in zip(first, second, strict=True):
        if one != other and one - short != other - long:
            raise Leak(node, "it takes a token at a computed place")
        found.add(one if one == other else one - short)
    return found
