"""What an activation is best divided by; see the package."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array

FloatArray = npt.NDArray[np.float32]

MOST_COLUMNS = 256
"""Columns of a weight that errors are estimated on."""

LEAST_ROWS = 64
"""Rows of an activation behind a gate from which its channels are believed to be told apart."""

RAREST = 1e-4
"""Share of the largest peak that the peaks of channels are raised to, which may be 0."""


def tell_apart(rows: Iterable[Array | None]) -> bool:
    """Whether there are enough rows of every activation to divide more than normalizations."""
    # Short feeds give the same rows several times.
    counts = [0 if found is None else len(np.unique(found.sum(axis=1))) for found in rows]
    return min(counts, default=0) >= LEAST_ROWS


def peaks_of(least: Array, largest: Array) -> Array:
    """How far channels reach from zero, [k]; what is never or hardly used like the rarest."""
    peaks: Array = np.maximum(np.abs(least), np.abs(largest)).astype(np.float64)
    return np.asarray(np.maximum(peaks, RAREST * peaks.max()))


def centred(divisors: Array) -> Array:
    """The divisors with 1 as their geometric mean."""
    return np.asarray(divisors / np.exp(np.log(divisors).mean()))


def columns_of(member: Product) -> Array:
    """Some columns of a product's weight, evenly spread; [k, columns]."""
    assert member.weight.const_value is not None
    stored = member.weight.const_value.numpy()
    matrix = stored.T if member.transposed else stored
    step = -(-matrix.shape[1] // MOST_COLUMNS)
    return np.asarray(matrix[:, ::step], np.float64)


def searched(
    candidates: Iterable[Array], error: Callable[[Array], float], least_gain: float
) -> FloatArray | None:
    """The divisors with the least error; None where that gains less than a factor over none."""
    tried = [(error(divisors), divisors) for divisors in candidates]
    least, best = min(tried, key=lambda item: item[0])
    if error(np.ones(len(best))) < least_gain * least:
        return None
    return best.astype(np.float32)
