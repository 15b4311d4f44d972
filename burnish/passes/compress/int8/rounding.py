"""What int8 makes of numbers, in numpy: the kernels' rounding without the kernels."""

from __future__ import annotations

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.int8.inputs import MIDDLE, TOP
from burnish.passes.compress.int8.ranges import TINY, Range


def rounded_activation(rows: Array, *, by_token: bool) -> Array:
    """An activation [rows, k] after a round trip through uint8."""
    if by_token:
        steps = TOP - MIDDLE
        scale = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), TINY) / steps
        return np.asarray(np.rint(rows / scale) * scale)
    return Range.covering(float(rows.min()), float(rows.max())).rounded(rows)


def rounded_weight(matrix: Array, bits: int) -> Array:
    """A weight [k, n] after a round trip through symmetric integers, a scale for each column."""
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(matrix).max(axis=0, keepdims=True), TINY) / top
    return np.asarray(np.rint(matrix / scale) * scale)
