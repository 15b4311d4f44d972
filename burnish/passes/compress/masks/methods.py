"""Which elements of a weight become zero, and what the others become.

`magnitude` takes the smallest. `wanda` takes, in each column, the smallest by |w| times the norm of
what it is multiplied with (Sun et al., 2023, arXiv:2306.11695). With both the others stay as they
are. `sparsegpt` takes those whose loss later rows can best make up for, which they then do
(Frantar and Alistarh, 2023, arXiv:2301.00774).
"""

from __future__ import annotations

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.correlations import BLOCK, COLUMNS, factored
from burnish.passes.compress.masks.pattern import Pattern

MAGNITUDE, WANDA, SPARSEGPT = "magnitude", "wanda", "sparsegpt"
METHODS = (MAGNITUDE, WANDA, SPARSEGPT)


def masked(matrix: Array, gram: Array | None, method: str, pattern: Pattern) -> Array:
    """A weight [k, n] with the zeros of a pattern, float32.

    Args:
        matrix: the weight.
        gram: x^T x of the activation that it is multiplied with, [k, k]; None for magnitude alone.
        method: one of `METHODS`.
        pattern: see there.
    """
    if method == MAGNITUDE or gram is None:
        return np.where(pattern.lowest_of_all(np.abs(matrix)), np.float32(0.0), matrix)
    if method == WANDA:
        scores = np.abs(matrix) * np.sqrt(np.diag(gram))[:, None]
        return np.where(pattern.lowest(scores), np.float32(0.0), matrix)
    order, factor = factored(gram, largest_first=not pattern.group)
    result = np.empty(matrix.shape, np.float32)
    for start in range(0, matrix.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        result[order, part] = _reconstructed(matrix[order, part], factor, pattern)
    return result


def _reconstructed(matrix: Array, factor: Array, pattern: Pattern) -> Array:
    """The rows, in the order of the factor, with zeros that later rows make up for."""
    work = np.asarray(matrix, np.float64).copy()
    size = max(pattern.group, 1)
    block = BLOCK // size * size or size
    for start in range(0, len(work), block):
        stop = min(start + block, len(work))
        inside = np.diag(factor)[start:stop, None]
        zero = np.zeros((stop - start, work.shape[1]), bool)
        if not pattern.group:
            zero = pattern.lowest_of_all((work[start:stop] / inside) ** 2)
        errors = np.empty(zero.shape)
        for index in range(start, stop):
            at = index - start
            if pattern.group and at % size == 0:
                near = slice(at, at + size)
                zero[near] = pattern.lowest((work[index : index + size] / inside[near]) ** 2)
            error = np.where(zero[at], work[index], 0.0) / factor[index, index]
            work[index + 1 : stop] -= np.outer(factor[index, index + 1 : stop], error)
            errors[at] = error
            work[index][zero[at]] = 0.0
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return work.astype(np.float32)
