"""Constants that are repeated for each image of a batch of which the number is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.movement.moves import VIEWS
from burnish.optimizer.analysis.movement.slabs import Slabs, slabs_of
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import Array

LARGEST = 1 << 22
"""Elements of the largest constant that is computed."""

DEEPEST = 16
"""Nodes between a value and the constants that it is made of."""

ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
    "Where": np.where,
}


@dataclass(frozen=True)
class Repeated:
    """A value that is a constant, once for each slab of it."""

    slabs: Slabs
    array: Array


def repeated(value: ir.Value | None, sizes: Sizes, depth: int = DEEPEST) -> Repeated | None:
    """The constant that a value repeats; None where it is made of anything else.

    Relative positions and the mask of shifted windows are one, [windows, heads, n, n] for each
    image, however an exporter adds them up.
    """
    slabs = slabs_of(sizes.shape(value))
    if value is None or slabs is None or slabs.count > LARGEST:
        return None
    if value.const_value is not None and value.producer() is None:
        return Repeated(slabs, value.const_value.numpy())
    node = value.producer()
    if node is None or node.domain != "" or depth == 0:
        return None
    if node.op_type in ELEMENTWISE:
        parts = [_fitting(item, slabs, sizes, depth) for item in node.inputs]
        known = [part for part in parts if part is not None]
        if len(known) < max(len(parts), 2):
            return None
        array = ELEMENTWISE[node.op_type](*known[:2], *known[2:3])
        return Repeated(slabs, np.broadcast_to(array, slabs.shape))
    source = repeated(node.inputs[0], sizes, depth - 1) if node.inputs else None
    if source is None:
        return None
    if node.op_type in VIEWS and source.slabs.lead == slabs.lead:
        return Repeated(slabs, source.array.reshape(slabs.shape))
    if node.op_type == "Expand" and _fits(source, slabs):
        return Repeated(slabs, np.broadcast_to(source.array, slabs.shape))
    return None


def _fitting(value: ir.Value | None, slabs: Slabs, sizes: Sizes, depth: int) -> Array | None:
    """The constant that an operand repeats, where it meets each slab of the result alike."""
    if value is not None and value.const_value is not None and not value.const_value.shape.rank():
        return value.const_value.numpy()
    found = repeated(value, sizes, depth - 1)
    return found.array if found is not None and _fits(found, slabs) else None


def _fits(found: Repeated, slabs: Slabs) -> bool:
    """Whether each slab of a larger value is the constant, broadcast."""
    mine, wanted = found.slabs, slabs.shape
    if mine.lead == slabs.lead:
        same = len(mine.shape) == len(wanted) and mine.shape[0] == wanted[0]
        return same or not slabs.open
    # A constant by itself is repeated where it is broadcast along the first axis.
    shorter = len(mine.shape) < len(wanted)
    return not mine.open and (shorter or (len(mine.shape) == len(wanted) and mine.shape[0] == 1))
