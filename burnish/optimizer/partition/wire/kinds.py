"""Encodings of what is sent: their bytes, and what they leave of a value.

float16 is a cast; what is beyond its range is sent as the largest number that it has. int8 has a
scale for each token, its largest magnitude over 127, sent beside it in float32
(ZeroQuant, Yao et al. 2022, rounds activations so).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.optimizer.contract import Array

FLOAT32, FLOAT16, INT8, AUTO = "float32", "float16", "int8", "auto"

KINDS = (FLOAT32, FLOAT16, INT8)
"""From the one that keeps all to the one that sends the least."""

LARGEST = 65504.0
"""Of float16."""

LEVELS = 127.0
"""Of int8, on each side of zero."""

LEAST = 1e-30
"""Magnitude below which a token counts as zero, so that no scale is."""


def sent(kind: str, shape: Sequence[int], itemsize: float, axis: int = -1) -> float:
    """Bytes in which a value of that shape is sent, whose elements have so many.

    Args:
        kind: one of `KINDS`.
        shape: of the value.
        itemsize: bytes of an element as it is.
        axis: of the features of a token, which share a scale.
    """
    elements = math.prod(shape)
    if kind == FLOAT16:
        return elements * min(2.0, itemsize)
    if kind == INT8:
        return elements + 4.0 * elements / max(shape[axis], 1)
    return elements * itemsize


def rounded(kind: str, array: Array, axis: int = -1) -> Array:
    """What is left of a value once it has been encoded and decoded, as `ports` does in graphs."""
    if kind == FLOAT16:
        return np.clip(array, -LARGEST, LARGEST).astype(np.float16).astype(array.dtype)
    if kind == INT8:
        wide = array.astype(np.float32)
        most = np.abs(wide).max(axis=axis, keepdims=True, initial=LEAST)
        scale = (most * np.float32(1.0 / LEVELS)).astype(np.float32)
        kept: Array = (np.rint(wide / scale) * scale).astype(array.dtype)
        return kept
    return array


def gentler(kind: str) -> str:
    """The next encoding that keeps more."""
    return KINDS[KINDS.index(kind) - 1]
