"""Weights rounded one input channel after the other, later ones making up for earlier ones.

This is GPTQ (Frantar et al., 2022, arXiv:2210.17323): the error that rounding row i of a weight
[k, n] makes in the products is spread over the rows that are not rounded yet, as the activations'
correlations say. Rows of channels with large activations go first. What is zero stays zero, so
that a mask outlives its rounding, and the error of that is handed on as well.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.correlations import BLOCK, COLUMNS, factored, gram_of


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


@dataclass(frozen=True)
class Feedback:
    """Where the errors of rounding go, as rows of an activation say; computed when it is needed.

    Attributes:
        rows: of the activation, [rows, k].
        by: what the activation is divided by before the product, [k]; None for 1. The weights that
            are rounded are those of the quotient. Damping is that of the activation itself.
    """

    rows: Array
    by: Array | None = None

    @functools.cached_property
    def factored(self) -> tuple[Array, Array]:
        """The channels in the order of rounding [k], those with the largest activations first.

        And in that order the upper Cholesky factor of the inverse correlations, [k, k].
        """
        order, factor = factored(gram_of(self.rows))
        if self.by is not None:
            factor = factor * self.by[order]
        return order, factor.astype(np.float32)

    def loss(self, errors: Array) -> float:
        """The squared error of the products that rounding by feedback makes.

        Args:
            errors: of the weights [k, n] when each by itself is rounded to the nearest. What is
                left of one is what no channel that is rounded later can make up for.
        """
        order, factor = self.factored
        return float(((errors[order] / np.diag(factor)[:, None]) ** 2).sum())


def rounded(matrix: Array, feedback: Feedback, grid: Grid) -> Array:
    """The codes [k, n] of a weight, int16.

    Args:
        matrix: the weight [k, n].
        feedback: of the activation that it is multiplied with.
        grid: see `Grid`.
    """
    order, factor = feedback.factored
    codes = np.empty(matrix.shape, np.int16)
    for start in range(0, matrix.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        codes[:, part] = _rounded(matrix[:, part], order, factor, grid.columns(part))
    return codes


def _rounded(matrix: Array, order: Array, factor: Array, grid: Grid) -> Array:
    work = np.asarray(matrix, np.float32)[order]
    codes = np.zeros((len(matrix) + 1, matrix.shape[1]), np.int16)  # the last row may be alone
    for start in range(0, len(work), BLOCK):
        stop = min(start + BLOCK, len(work))
        errors = np.empty((stop - start, work.shape[1]), np.float32)
        for index in range(start, stop):
            row = int(order[index])
            wanted = np.where(matrix[row] == 0, np.float32(0.0), work[index])
            code = grid.codes(row, wanted, codes[row ^ 1])
            codes[row] = code
            error = (work[index] - grid.values(row, code)) / factor[index, index]
            work[index + 1 : stop] -= np.outer(factor[index, index + 1 : stop], error)
            errors[index - start] = error
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return codes[: len(matrix)]
