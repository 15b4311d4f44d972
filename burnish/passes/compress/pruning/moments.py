"""What least squares needs of inputs and outputs of a layer: sums over rows, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UnsupportedModel

TOGETHER = 1024
"""Rows that are multiplied at once: sums of few rows cost more to add than to find."""


class Moments:
    """Sums over rows x [k] and y [n], taken in piece by piece.

    Args:
        k, n: channels of the inputs and of the outputs.
    """

    def __init__(self, k: int, n: int) -> None:
        self._rows = 0
        self._waiting: list[tuple[Array, Array]] = []
        self._x, self._y = np.zeros(k), np.zeros(n)
        self._xx, self._xy = np.zeros((k, k)), np.zeros((k, n))
        self._yy = np.zeros(n)

    def add(self, x: Array, y: Array) -> None:
        """Take in some rows: [rows, k] and [rows, n], float32."""
        self._waiting.append((x, y))
        if sum(len(rows) for rows, _ in self._waiting) >= TOGETHER:
            self._sum()

    def _sum(self) -> None:
        if not self._waiting:
            return
        x, y = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self._rows += len(x)
        self._x += x.sum(0, dtype=np.float64)
        self._y += y.sum(0, dtype=np.float64)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += (y.astype(np.float64) ** 2).sum(0)

    def about(self, *, mean: bool) -> Centred:
        """The moments about the means, or about zero for a layer that adds nothing.

        Raises:
            UnsupportedModel: no row was taken in, or they are no numbers.
        """
        self._sum()
        if not self._rows or not np.isfinite(self._yy).all() or not np.isfinite(self._xx).all():
            raise UnsupportedModel("the data gives no numbers to a layer that is to be pruned")
        x, y = self._x * mean / self._rows, self._y * mean / self._rows
        gram = self._xx / self._rows - np.outer(x, x)
        cross = self._xy / self._rows - np.outer(x, y)
        variance = np.maximum(self._yy / self._rows - y * y, 0.0)
        return Centred(x, y, gram, cross, variance, self._rows)


@dataclass(frozen=True)
class Centred:
    """Second moments over rows about the means, or about zero.

    Attributes:
        x, y: what they are about, [k], [n].
        gram, cross: of x with itself [k, k], and with y [k, n].
        variance: of y, [n].
        rows: how many there were.
    """

    x: Array
    y: Array
    gram: Array
    cross: Array
    variance: Array
    rows: int
