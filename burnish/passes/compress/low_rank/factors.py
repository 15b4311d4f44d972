"""Two matrices whose product stands for a weight, of the least rank that loses no more than asked.

What is lost is lost in the products with an activation, so the singular values that count are
those of `L^T W`, where `L L^T` is the covariance of the activation's rows (SVD-LLM, Wang et al.,
2024, arXiv:2403.07378, takes the second moment): cutting them off loses exactly their share of what
varies in the products with those rows. Their mean is kept, in a bias. Without rows the values are
those of the weight itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array

DAMPING = 0.001
"""Added to the diagonal of the second moment, as a share of its mean. On MiniLM's 36 weights, with
half of the multiplications, the mean error on other rows is 0.268, with 0.1 it is 0.264, and by the
singular values of the weights themselves 0.378. More damping keeps directions that rows never take:
where they take 24 of 128, an error of 0.01 needed 64 of them with 0.1."""

HELD_OUT = 4
"""One row in so many is left out of the moment, and says what a rank loses."""

NOTHING = 1e-12
"""Of the largest eigenvalue, a share that stands for zero: a millionth of a singular value."""

STEP = 16
"""Ranks are multiples of this: ONNX Runtime's kernels take columns by 16."""


@dataclass(frozen=True)
class Factors:
    """A weight [k, n] in two.

    Attributes:
        left, right: [k, rank] and [rank, n]; empty where no rank loses little enough.
        rank: the least that loses no more than asked.
        error: relative L2 error of what varies in the products with rows held out, else of the
            weight.
        shift: what is added to the products, [n], so that their mean stays.
    """

    left: Array
    right: Array
    rank: int
    error: float
    shift: Array


def factors(weight: Array, rows: Array | None, error: float, most: int) -> Factors:
    """The factors of least rank with an error of at most `error`.

    Args:
        weight: [k, n].
        rows: of the activation, [rows, k]; None where none are known.
        error: relative, above 0.
        most: the largest rank that is of any use; where more is needed the factors are empty.
    """
    basis = _Basis(weight, rows)
    low, high = 0, -(-min(weight.shape) // STEP)
    while low < high:
        middle = (low + high) // 2
        if basis.error(middle * STEP) <= error:
            high = middle
        else:
            low = middle + 1
    rank = min(max(low, 1) * STEP, basis.rank)
    if rank > most:
        return Factors(weight[:, :0], weight[:0], rank, basis.error(rank), weight[0] * 0)
    return Factors(*basis.parts(rank), rank, basis.error(rank), basis.shift(rank))


class _Basis:
    """A weight in the directions that its products lie in, those that give most first.

    Attributes:
        rank: how many directions give anything.
    """

    rank: int

    def __init__(self, weight: Array, rows: Array | None) -> None:
        self._weight = np.asarray(weight, np.float64)
        self._mean = np.zeros(weight.shape[0])
        self._held = spread = None
        if rows is not None:
            used = np.asarray(np.delete(rows, np.s_[::HELD_OUT], axis=0), np.float64)
            self._mean = used.mean(0)
            self._held = np.asarray(rows[::HELD_OUT], np.float64) - self._mean
            spread = _spread(used - self._mean)
        seen = self._weight if spread is None else spread.T @ self._weight
        if weight.shape[0] <= weight.shape[1]:
            directions, self.rank = leading(seen @ seen.T)
            # A = L^-T U, B = U^T L^T W.
            self._left = directions if spread is None else np.linalg.solve(spread.T, directions)
            self._right = directions.T @ seen
        else:
            directions, self.rank = leading(seen.T @ seen)
            self._left, self._right = self._weight @ directions, directions.T
        self._exact = self._weight if self._held is None else self._held @ self._weight

    def parts(self, rank: int) -> tuple[Array, Array]:
        """The two factors of a rank, float32."""
        left, right = self._left[:, :rank], self._right[:rank]
        return left.astype(np.float32), right.astype(np.float32)

    def shift(self, rank: int) -> Array:
        """What the mean of the rows loses, [n]."""
        lost = self._mean @ self._weight - self._mean @ self._left[:, :rank] @ self._right[:rank]
        return np.asarray(lost, np.float32)

    def error(self, rank: int) -> float:
        """Relative L2 error of what varies in the products with rows held out, or of the weight."""
        left = self._left[:, :rank]
        left = left if self._held is None else self._held @ left
        norm = float(np.linalg.norm(self._exact))
        lost = float(np.linalg.norm(self._exact - left @ self._right[:rank]))
        return lost / norm if norm else lost


def _spread(rows: Array) -> Array:
    """The lower Cholesky factor [k, k] of the moment of rows whose mean is 0."""
    moment = rows.T @ rows
    mean = float(np.diag(moment).mean()) or 1.0
    moment[np.diag_indices_from(moment)] += DAMPING * mean
    return np.asarray(np.linalg.cholesky(moment))


def leading(gram: Array) -> tuple[Array, int]:
    """Eigenvectors as columns, that of the largest eigenvalue first; and how many are not of 0.

    The largest element of each is positive, so that the same weight gives the same factors.
    """
    values, vectors = np.linalg.eigh(gram)
    largest = np.argmax(np.abs(vectors), axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(vectors))])
    return vectors[:, ::-1], max(1, int((values > NOTHING * values[-1]).sum()))
