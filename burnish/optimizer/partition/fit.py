"""Factors by which a device is slower than its rates say, by kind of operator, from times of runs.

A run takes the sum over kinds of factor times seconds by the rates, and some time for each
operator whatever it does. The factors are those, none below zero, that come nearest to the times
relative to them; what the times do not decide stays near the factor of all kinds together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.optimizer.contract import Array

USUAL = 1e-6
"""Seconds of an operator by itself that are assumed where the times do not tell."""

PULL = 1e-3
"""Weight of a factor's distance from what is assumed, beside the errors of the runs."""

SWEEPS = 5000


def factors(
    rows: Sequence[Sequence[float]], counts: Sequence[int], times: Sequence[float]
) -> tuple[list[float], float]:
    """The factor of each kind, and the seconds of an operator.

    Args:
        rows: of each run, seconds by the rates for each kind.
        counts: of each run, its operators.
        times: seconds that each run took: positive.
    """
    target = np.array(times, float)
    kinds = np.array(rows, float) / target[:, None]
    whole = float(1.0 / max(np.median(kinds.sum(axis=1)), 1e-30))
    operators = np.array(counts, float)[:, None] * USUAL / target[:, None]
    # In units of what is assumed, so that one pull fits all.
    found = _nonnegative(np.concatenate([kinds * whole, operators], axis=1))
    return [float(item * whole) for item in found[:-1]], float(found[-1] * USUAL)


def _nonnegative(system: Array) -> Array:
    """The factors, each near 1, whose sums of columns are nearest to 1: none below zero."""
    found: Array = np.ones(system.shape[1])
    normal = system.T @ system + PULL * np.eye(len(found))
    right = system.sum(axis=0) + PULL
    for _ in range(SWEEPS):  # coordinate descent: each factor in turn
        before = found.copy()
        for index in range(len(found)):
            rest = right[index] - normal[index] @ found + normal[index, index] * found[index]
            found[index] = max(0.0, rest / normal[index, index])
        if np.allclose(before, found, rtol=1e-10, atol=1e-12):
            break
    return found
