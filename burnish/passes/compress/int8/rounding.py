"""What int8 makes of numbers, in numpy: the kernels' rounding without the kernels."""

from __future__ import annotations

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.int8.inputs import MIDDLE, TINY, TOP


def rounded_activation(rows: Array, *, by_token: bool) -> Array:
    """An activation [rows, k] after a round trip through uint8."""
    if by_token:
        steps = TOP - MIDDLE
        scale = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), TINY) / steps
        return np.asarray(np.rint(rows / scale) * scale)
    low, high = min(0.0, float(rows.min())), max(0.0, float(rows.max()))
    scale = max((high - low) / TOP, TINY)
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(rows / scale) + zero, 0, TOP) - zero) * scale)


def rounded_weight(matrix: Array, bits: int) -> Array:
    """A weight [k, n] after a round trip through symmetric integers, a scale for each column."""
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(matrix).max(axis=0, keepdims=True), TINY) / top
    return np.asarray(np.rint(matrix / scale) * scale)
