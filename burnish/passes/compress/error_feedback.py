"""Weights rounded one input channel after the other, later ones making up for earlier ones.

This is GPTQ (Frantar et al., 2022, arXiv:2210.17323): the error that rounding row i of a weight
[k, n] makes in the products is spread over the rows that are not rounded yet, as the activations'
correlations say. Rows of channels with large activations go first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array

DAMPING = 0.1
"""Added to the diagonal of the correlations, as a share of its mean. On MiniLM with 1024 rows the
loss of int8 weights on other sentences is the same from 0.05 to 0.2, and a third larger at 0.01."""

BLOCK = 128
"""Rows between which errors are handed on one by one; beyond, by a matrix product."""

COLUMNS = 4096
"""Columns of a weight that are worked on at a time: they do not depend on each other."""


@dataclass(frozen=True)
class Grid:
    """What codes stand for: `(code - zero) * scale`.

    Attributes:
        scales: [blocks, n], one for each block of a column.
        zeros: likewise, or 0.
        size: rows of a block.
        low, high: the least and the largest code.
        pair: what the codes of rows 2i and 2i + 1 may add up to where they are of one sign.
    """

    scales: Array
    zeros: Array | int
    size: int
    low: int
    high: int
    pair: int | None = None

    def columns(self, part: slice) -> Grid:
        """The grid of some columns."""
        zeros = self.zeros if isinstance(self.zeros, int) else self.zeros[:, part]
        return Grid(self.scales[:, part], zeros, self.size, self.low, self.high, self.pair)

    def codes(self, row: int, values: Array, beside: Array | int = 0) -> Array:
        """The codes nearest to the values [n] of a row; whole numbers as floats.

        `beside` are those of the other row of the pair, 0 as long as it has none.
        """
        scale, zero = self._at(row)
        codes = np.clip(np.rint(values / scale) + zero, self.low, self.high)
        if self.pair is None:
            return codes
        return codes.clip(-self.pair - np.minimum(beside, 0), self.pair - np.maximum(beside, 0))

    def values(self, row: int, codes: Array) -> Array:
        """What the codes of a row stand for."""
        scale, zero = self._at(row)
        return np.asarray((codes - zero) * scale)

    def _at(self, row: int) -> tuple[Array, Array | int]:
        block = row // self.size
        return self.scales[block], self.zeros if isinstance(self.zeros, int) else self.zeros[block]


def rounded(matrix: Array, rows: Array, grid: Grid) -> Array:
    """The codes [k, n] of a weight, int16.

    Args:
        matrix: the weight [k, n].
        rows: activations that it is multiplied with, [rows, k].
        grid: see `Grid`.
    """
    order, factor = _factor(np.asarray(rows, np.float64))
    codes = np.empty(matrix.shape, np.int16)
    for start in range(0, matrix.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        codes[:, part] = _rounded(matrix[:, part], order, factor, grid.columns(part))
    return codes


def _factor(rows: Array) -> tuple[Array, Array]:
    """The order of the channels, and the upper Cholesky factor of the inverse correlations."""
    gram = rows.T @ rows
    mean = float(np.diag(gram).mean()) or 1.0
    gram[np.diag_indices_from(gram)] += DAMPING * mean
    order = np.argsort(-np.diag(gram), kind="stable")
    inverse = np.linalg.inv(gram[np.ix_(order, order)])
    return order, np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)


def _rounded(matrix: Array, order: Array, factor: Array, grid: Grid) -> Array:
    work = np.asarray(matrix, np.float32)[order]
    codes = np.zeros((len(matrix) + 1, matrix.shape[1]), np.int16)  # the last row may be alone
    for start in range(0, len(work), BLOCK):
        stop = min(start + BLOCK, len(work))
        errors = np.empty((stop - start, work.shape[1]), np.float32)
        for index in range(start, stop):
            row = int(order[index])
            code = grid.codes(row, work[index], codes[row ^ 1])
            codes[row] = code
            error = (work[index] - grid.values(row, code)) / factor[index, index]
            work[index + 1 : stop] -= np.outer(factor[index, index + 1 : stop], error)
            errors[index - start] = error
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return codes[: len(matrix)]
