"""What int8 makes of numbers, in numpy: the kernels' rounding without the kernels."""

from __future__ import annotations

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.int8.inputs import MIDDLE, TOP
from burnish.passes.compress.int8.ranges import TINY, Range
from burnish.passes.compress.int8.weights import channel_scales


def rounded_activation(rows: Array, *, by_token: bool) -> Array:
    """An activation [rows, k] after a round trip through uint8."""
    if by_token:
        steps = TOP - MIDDLE
        scale = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), TINY) / steps
        return np.asarray(np.rint(rows / scale) * scale)
    return Range.covering(float(rows.min()), float(rows.max())).rounded(rows)


def rounded_weight(matrix: Array, *, saturating: bool) -> Array:
    """A weight [k, n] after a round trip through symmetric integers, a scale for each column."""
    scale = channel_scales(matrix, 1, saturating=saturating)
    return np.asarray(np.rint(matrix / scale) * scale)
