"""The range of an activation, fixed beforehand by what calibration saw of it.

    minmax      from the least to the largest value over all feeds
    percentile  without the 0.005 % of the values that are furthest out on either side
    entropy     up to the threshold where the histogram, clipped and rounded, diverges least from
                what it was (Migacz, 8-bit Inference with TensorRT, GTC 2017)
    mse         up to the threshold with the least squared error of the values
    best        of these, the one whose products with the weights differ least from the exact ones

A threshold cuts magnitudes, on both sides alike. All but the first are found on the rows that
`Observation` has of real tokens, so that their cost does not depend on the number of feeds.

On MiniLM no method is the best everywhere: what follows a normalization or an attention wants one
value in ten thousand cut off, what GELU gives has values that are rare, large and needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array, Observation
from burnish.passes.compress.smoothing.search import columns_of

METHODS = ("minmax", "percentile", "entropy", "mse")
"""Ways to choose a range."""

BEST = "best"

TINY = 1e-30
"""Stands for the range of zeros, by which nothing can be divided."""

PERCENTILE = 99.99
"""Share of the values that lie within the range of `percentile`."""

BINS = 2048
"""Of the histogram of magnitudes for `entropy`, as in the source."""

STRIDE = 8
"""Bins from one threshold that `entropy` tries to the next."""

LEAST_SHARE = 1e-6
"""Stands for the share of a bin that rounding leaves empty, whose logarithm is asked for."""

FINE = 1 << 14
"""Bins of the histogram of values for `mse`: 64 for each step of the full range."""

RATIOS = np.linspace(0.05, 1.0, 96)
"""Thresholds that `mse` tries, over the largest magnitude."""


@dataclass(frozen=True)
class Range:
    """What integers stand for: `(integer - zero) * scale`, for integers from `low` to `high`."""

    scale: float
    zero: int
    low: int
    high: int

    @classmethod
    def covering(cls, low: float, high: float, *, symmetric: bool = False) -> Range:
        """The range of all that is between the two, and of 0.

        It is of uint8, or where `symmetric` of int8 with zero at 0.
        """
        low, high = min(0.0, low), max(0.0, high)
        if symmetric:
            return cls(max(-low, high, TINY) / 127, 0, -128, 127)
        scale = max(high - low, TINY) / 255
        return cls(scale, round(-low / scale), 0, 255)

    def rounded(self, values: Array) -> Array:
        """The values after a round trip through the integers."""
        codes = np.clip(np.rint(values / self.scale) + self.zero, self.low, self.high)
        return np.asarray((codes - self.zero) * self.scale)

    @property
    def origin(self) -> np.generic:
        """The zero, in the type of the integers."""
        return np.uint8(self.zero) if self.low == 0 else np.int8(self.zero)


def range_of(
    seen: Observation,
    members: Sequence[Product],
    divisors: Array | None = None,
    method: str = BEST,
    *,
    symmetric: bool = False,
) -> Range | None:
    """The range of an activation, or of its quotient; None where it has no finite one.

    Args:
        seen: what the activation was.
        members: products of the activation, by which `BEST` judges.
        divisors: of its channels, [k]; they multiply the rows of the weights.
        method: one of `METHODS`, or `BEST`; where no rows are known it is `minmax`.
        symmetric: see `Range.covering`.
    """
    by = np.float64(1.0) if divisors is None else np.asarray(divisors, np.float64)
    low, high = float(np.min(seen.least / by)), float(np.max(seen.largest / by))
    if not np.isfinite([low, high]).all():
        return None
    full = Range.covering(low, high, symmetric=symmetric)
    if seen.rows is None or not seen.rows.any():
        return full
    rows = seen.rows / by
    names = METHODS if method == BEST else (method,)
    found = {
        name: full if name == "minmax" else _clipped(name, rows, symmetric=symmetric)
        for name in names
    }
    if len(found) == 1:
        return found[method]
    matrix = np.concatenate([columns_of(member) for member in members], axis=1)
    matrix *= np.broadcast_to(by, len(matrix))[:, None]
    exact = rows @ matrix
    errors = {
        name: float(np.linalg.norm(item.rounded(rows) @ matrix - exact))
        for name, item in found.items()
    }
    return found[min(errors, key=lambda name: errors[name])]


def _clipped(name: str, rows: Array, *, symmetric: bool) -> Range:
    """The range by one of the methods that see the rows."""
    low, high = min(0.0, float(rows.min())), max(0.0, float(rows.max()))
    if name == "percentile":
        outside = (100 - PERCENTILE) / 2
        low, high = map(float, np.percentile(rows, [outside, 100 - outside]))
        return Range.covering(low, high, symmetric=symmetric)
    peak = max(-low, high)

    def within(limit: float) -> Range:
        return Range.covering(max(low, -limit), min(high, limit), symmetric=symmetric)

    if name == "entropy":
        # Of 256 levels, those that the longer side has.
        share = 0.5 if symmetric else peak / (high - low)
        return within(_by_divergence(np.abs(rows), peak, round(256 * share)))
    counts, edges = np.histogram(rows, FINE, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2

    def error(ratio: float) -> float:
        return float(counts @ (within(ratio * peak).rounded(middles) - middles) ** 2)

    return within(min(RATIOS, key=error) * peak)


def _by_divergence(sizes: Array, peak: float, levels: int) -> float:
    """The threshold whose clipped histogram is nearest to its own rounding to so many levels."""
    counts, edges = np.histogram(sizes, BINS, (0.0, peak))
    found = {
        bins: _divergence(counts[:bins], int(counts[bins:].sum()), levels)
        for bins in range(levels, BINS + 1, STRIDE)
    }
    return float(edges[min(found, key=lambda bins: found[bins])])


def _divergence(counts: Array, outside: int, levels: int) -> float:
    """From the counts, with those outside in the last, to what the levels say of the counts."""
    clipped = counts.astype(np.float64)
    clipped[-1] += outside
    filled = counts > 0
    starts = np.arange(levels) * len(counts) // levels
    widths = np.diff(starts, append=len(counts))
    means = np.add.reduceat(counts, starts) / np.maximum(np.add.reduceat(filled, starts), 1)
    spread = np.repeat(means, widths) * filled
    there = clipped > 0
    first = clipped[there] / clipped.sum()
    second = np.maximum(spread[there] / max(counts.sum(), 1), LEAST_SHARE)
    return float(first @ np.log(first / second))
