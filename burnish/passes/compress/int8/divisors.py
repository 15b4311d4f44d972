"""What int8 divides activations by before it rounds them; SmoothQuant, see `smoothing`.

A tensor has one range in int8, so that a channel with values of 30 leaves few steps to a hundred
channels with values of 1; weights have a range per output channel and hardly notice. The exponent
is a half, or with the user's own data the one that measures best there, for each activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array, Observation
from burnish.passes.compress.int8.rounding import rounded_activation, rounded_weight
from burnish.passes.compress.smoothing.search import (
    RAREST,
    FloatArray,
    centred,
    columns_of,
    peaks_of,
    searched,
)

LEAST_GAIN = 1.3
"""Factor by which the rounding error of the products must fall, as estimated by `divisor`."""

EXPONENTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""How much of a channel's range goes into the weights; SmoothQuant's alpha."""


def divisor(
    seen: Observation, members: Sequence[Product], *, saturating: bool, by_token: bool
) -> FloatArray | None:
    """The divisors [k] of the activation's channels, or None where they gain too little.

    They are `peaks ** exponent / weights ** (1 - exponent)` over the channels. The exponent is a
    half, or where rows of real activations are known the one of `EXPONENTS` with the least error
    of the products on them.

    Args:
        seen: what the activation was.
        members: products of the activation.
        saturating: see `weights.operand`.
        by_token: whether each token has a range of its own.
    """
    weights = np.zeros(members[0].k)
    for member in members:
        assert member.weight.const_value is not None
        matrix = np.abs(member.weight.const_value.numpy()).max(axis=int(not member.transposed))
        weights = np.maximum(weights, matrix)
    peaks = peaks_of(seen.least, seen.largest)
    if not (np.isfinite(peaks).all() and np.isfinite(weights).all() and peaks.any()):
        return None
    # A channel without weights has no ratio; it is bounded like the rarest of them.
    weights = np.maximum(weights, RAREST * weights.max())
    if seen.rows is not None:
        error = _error_on(seen.rows, members, saturating=saturating, by_token=by_token)
        candidates = (_ratios(peaks, weights, exponent) for exponent in EXPONENTS)
        return searched(candidates, error, LEAST_GAIN)
    found = _ratios(peaks, weights, 0.5)
    bounds = np.array([seen.least, seen.largest], np.float64)
    before = np.ptp([*bounds.flat, 0.0]) * np.linalg.norm(weights)
    after = np.ptp([*(bounds / found).flat, 0.0]) * np.linalg.norm(weights * found)
    return found.astype(np.float32) if before >= LEAST_GAIN * after else None


def _ratios(peaks: Array, weights: Array, exponent: float) -> Array:
    return centred(peaks**exponent / weights ** (1.0 - exponent))


def _error_on(
    rows: Array, members: Sequence[Product], *, saturating: bool, by_token: bool
) -> Callable[[Array], float]:
    """How much the products of the rows differ from the exact ones, given divisors."""
    matrix = np.concatenate([columns_of(member) for member in members], axis=1)
    exact = rows @ matrix

    def error(divisors: Array) -> float:
        left = rounded_activation(rows / divisors, by_token=by_token)
        right = rounded_weight(matrix * divisors[:, None], saturating=saturating)
        return float(np.linalg.norm(left @ right - exact))

    return error
