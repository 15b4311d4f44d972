"""The cheap measure of what counts: how large inputs are, times the weights that they meet.

An input of a layer counts by its mean square over rows times the squared norm of its row of the
weight, which is Wanda's measure (Sun et al., 2023, arXiv:2306.11695) summed over a structure.
What inputs have to do with each other is left out, so nothing makes up for others: weights stay,
and only the means of what goes are added to the bias. Sums are of one number for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UnsupportedModel
from burnish.passes.compress.pruning.elimination import Order


@dataclass(frozen=True)
class Spread:
    """Means over rows, and mean squares about them; about zero for a layer that adds nothing.

    Attributes:
        x, y: means of inputs [k] and outputs [n].
        inputs, outputs: mean squares, [k] and [n].
    """

    x: Array
    y: Array
    inputs: Array
    outputs: Array


class Sums:
    """Sums over rows x [k] and y [n], taken in piece by piece."""

    def __init__(self, k: int, n: int) -> None:
        self._rows = 0
        self._sums = [np.zeros(k), np.zeros(n), np.zeros(k), np.zeros(n)]

    def add(self, x: Array, y: Array) -> None:
        """Take in some rows: [rows, k] and [rows, n], float32."""
        self._rows += len(x)
        wide = [array.astype(np.float64) for array in (x, y)]
        for total, array in zip(self._sums, [*wide, *(array**2 for array in wide)], strict=True):
            total += array.sum(0)

    def about(self, *, mean: bool) -> Spread:
        """What they come to.

        Raises:
            UnsupportedModel: no row was taken in, or they are no numbers.
        """
        if not self._rows or not all(np.isfinite(total).all() for total in self._sums):
            raise UnsupportedModel("the data gives no numbers to a layer that is to be pruned")
        x, y, inputs, outputs = (total / self._rows for total in self._sums)
        x, y = x * mean, y * mean
        return Spread(x, y, np.maximum(inputs - x * x, 0.0), np.maximum(outputs - y * y, 0.0))


class Diagonal:
    """A layer whose inputs count each by itself; see `elimination.Layer` for what it is asked.

    Args:
        spread: of what it gets, and of what it gave.
        weight: [k, n].
        scale: [n], how much channels of y count; see `layers.importance`.
    """

    def __init__(self, spread: Spread, weight: Array, scale: Array) -> None:
        self._spread, self._weight = spread, weight
        self._counts = spread.inputs * ((weight * scale) ** 2).sum(1, dtype=np.float64)
        self._energy = float((spread.outputs * scale**2).sum()) or 1.0

    def order(self, units: Array, stay: int = 0) -> Order:
        """The order in which units [units, size] go; `stay` changes nothing here."""
        counts = self._counts[units].sum(1)
        gone = np.argsort(counts, kind="stable")
        lost = np.cumsum([0.0, *counts[gone]]) / self._energy
        return Order(tuple(gone.tolist()), np.minimum(lost, 1.0))

    def lost(self, rows: Array) -> float:
        """The squared error of y where only these rows are left, as a share of its variance."""
        if not len(rows):
            return 1.0
        return float(min(1.0, np.delete(self._counts, rows).sum() / self._energy))

    def solved(self, rows: Array) -> tuple[Array, Array]:
        """The weight [rows, n], as it was, and the bias [n] that keeps the mean, float32."""
        bias = self._spread.y - self._spread.x[rows] @ self._weight[rows]
        return self._weight[rows], bias.astype(np.float32)
