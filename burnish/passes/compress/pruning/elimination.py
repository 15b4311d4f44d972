"""Which inputs of a layer go first, and the weights of those that stay.

A layer `y = x W + b` that loses rows of W loses least where the others make up for them. With the
moments of x and y that is least squares, whose solution without some rows follows from the one
with them: ZipLM (Kurtic et al., 2023, arXiv:2302.04089) removes whole structures by this second
order formula of Optimal Brain Surgeon. Here y is what the layer gave before anything was pruned,
and x what it gets now, so that it also makes up for what was lost before it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.moments import Centred

DAMPING = 0.01
"""Added to the diagonal of the moment of inputs, as a share of its mean."""

TINY = 1e-9
"""The least that a channel counts where it is divided by."""

TOGETHER = 96
"""Steps in which all units go: of many, several go at once, the least of them by their scores."""


@dataclass(frozen=True)
class Order:
    """Units in the order in which they go, and what is lost then.

    Attributes:
        gone: all units, those that go first in front.
        lost: [units + 1], the squared error of y once so many are gone, as a share of its variance.
    """

    gone: tuple[int, ...]
    lost: Array

    def kept(self, count: int) -> tuple[int, ...]:
        """The units that stay where so many do, ascending."""
        return tuple(sorted(self.gone[len(self.gone) - count :]))


@dataclass(frozen=True)
class Reduced:
    """A layer of reduced rank, at all ranks: least squares along the directions that give most.

    Attributes:
        left, right: [k, ranks] and [ranks, n], whose product is the weight.
        shares: of the variance of what the layer gives, which each direction has.
        means: of inputs and outputs.
    """

    left: Array
    right: Array
    shares: Array
    means: tuple[Array, Array]

    def at(self, rank: int) -> tuple[Array, Array]:
        """The weight [k, n] and the bias [n], float32."""
        weight = self.left[:, :rank] @ self.right[:rank]
        bias = self.means[1] - self.means[0] @ weight
        return weight.astype(np.float32), bias.astype(np.float32)

    def lost(self, rank: int) -> float:
        """What is lost with a rank, as a share of the variance of all that the layer gives."""
        return float(self.shares[rank:].sum())


class Layer:
    """Least squares for a layer on the moments of what it gets and what it gave.

    Args:
        moments: see `Centred`.
        weight: [k, n], which the solution is drawn to where rows of x say nothing.
        scale: [n], how much channels of y count; see `layers.importance`.
    """

    def __init__(self, moments: Centred, weight: Array, scale: Array) -> None:
        mean = float(np.diag(moments.gram).mean()) or 1.0
        self._moments = moments
        self._scale = scale
        self._damped = moments.gram.copy()
        self._damped[np.diag_indices_from(self._damped)] += DAMPING * mean
        self._wanted = moments.cross + DAMPING * mean * weight

    def order(self, units: Array, stay: int = 0) -> Order:
        """The order in which units go.

        Args:
            units: [units, size], the rows of W that each of them has.
            stay: so many of the last ones need no order, and what is lost with them is not known.
        """
        inverse = np.linalg.inv(self._damped)
        inverse = (inverse + inverse.T) / 2
        weight = inverse @ self._wanted
        base = self._error(weight, np.arange(len(weight)))
        # Rows in the order of units, so that those of a unit lie together.
        rows = units.reshape(-1)
        inverse, weight = inverse[np.ix_(rows, rows)], weight[rows] * self._scale
        left = np.arange(len(units))
        gone: list[int] = []
        lost = [0.0]
        while len(left) > stay:
            scores = _scores(inverse, weight, units.shape[1])
            least = np.argsort(scores, kind="stable")[: max(1, len(units) // TOGETHER)]
            total, inverse, weight = _without(inverse, weight, least, units.shape[1])
            shares = scores[least] / (scores[least].sum() or 1.0)
            lost += [lost[-1] + total * share for share in np.cumsum(shares)]
            gone += left[least].tolist()
            left = np.delete(left, least)
        lost += [lost[-1]] * len(left)
        gone += left.tolist()
        return Order(tuple(gone), np.minimum((base + np.array(lost)) / self._energy, 1.0))

    def lost(self, rows: Array) -> float:
        """The squared error of y where only these rows are left, as a share of its variance."""
        if not len(rows):
            return 1.0
        weight = np.linalg.solve(self._damped[np.ix_(rows, rows)], self._wanted[rows])
        return min(1.0, self._error(weight, rows) / self._energy)

    @property
    def inputs(self) -> tuple[Array, Array]:
        """What inputs are about, [k], and their moment about it, [k, k]."""
        return self._moments.x, self._moments.gram

    def reduced(self, part: slice) -> Reduced:
        """Some columns of the solution in the directions of what they give."""
        scale = np.maximum(self._scale[part], TINY)
        root = np.linalg.cholesky(self._damped)
        best = np.linalg.solve(self._damped, self._wanted[:, part])
        left, values, right = np.linalg.svd((root.T @ best) * scale, full_matrices=False)
        ahead = np.linalg.solve(root.T, left * values)
        return Reduced(ahead, right / scale, values**2 / self._energy, self._shift(part))

    def _shift(self, part: slice) -> tuple[Array, Array]:
        return self._moments.x, self._moments.y[part]

    def basis(self, size: int, rows: Array) -> Array:
        """Directions of heads, of `size` rows each, those first that cost most to lose.

        Heads come one after the other in `rows`, the others are gone. In the metric of the inverse
        moment what is lost with a direction is what the other rows cannot make up for.

        Returns:
            [k, k], block by block, which rows of x are multiplied with; the identity elsewhere.
        """
        inverse = np.linalg.inv(self._damped[np.ix_(rows, rows)])
        inverse = (inverse + inverse.T) / 2
        weight = (inverse @ self._wanted[rows]) * self._scale
        found = np.eye(len(self._damped))
        for start in range(0, len(rows), size):
            at = slice(start, start + size)
            root = np.linalg.cholesky(inverse[at, at])
            turned = np.linalg.svd(np.linalg.solve(root, weight[at]))[0]
            found[np.ix_(rows[at], rows[at])] = root @ turned
        return found

    def turned(self, basis: Array) -> Layer:
        """The same layer for inputs that are multiplied with a basis [k, k]."""
        moments = self._moments
        other = copy.copy(self)
        other._damped, other._wanted = basis.T @ self._damped @ basis, basis.T @ self._wanted
        gram, cross = basis.T @ moments.gram @ basis, basis.T @ moments.cross
        other._moments = replace(moments, x=moments.x @ basis, gram=gram, cross=cross)
        return other

    def _error(self, weight: Array, rows: Array) -> float:
        """The squared error with a weight for some rows, by what channels count."""
        moments, square = self._moments, self._scale**2
        gram = moments.gram[np.ix_(rows, rows)]
        spent = (weight * (gram @ weight - 2 * moments.cross[rows])).sum(0)
        return max(0.0, float(((moments.variance + spent) * square).sum()))

    @property
    def _energy(self) -> float:
        return float((self._moments.variance * self._scale**2).sum()) or 1.0

    def solved(self, rows: Array) -> tuple[Array, Array]:
        """The weight [rows, n] and the bias [n] where only these rows are left, float32."""
        moments = self._moments
        weight = np.linalg.solve(self._damped[np.ix_(rows, rows)], self._wanted[rows])
        bias = moments.y - moments.x[rows] @ weight
        return weight.astype(np.float32), bias.astype(np.float32)


def _scores(inverse: Array, weight: Array, size: int) -> Array:
    """What is lost with each unit, of `size` rows, by itself."""
    if size == 1:
        return np.asarray((weight**2).sum(1) / np.diag(inverse))
    parts = weight.reshape(-1, size, weight.shape[1])
    blocks = [inverse[at : at + size, at : at + size] for at in range(0, len(inverse), size)]
    pairs = zip(blocks, parts, strict=True)
    return np.array([float((part * np.linalg.solve(block, part)).sum()) for block, part in pairs])


def _without(inverse: Array, weight: Array, units: Array, size: int) -> tuple[float, Array, Array]:
    """What is lost with some units together, and the inverse and the weight of the others."""
    rows = (units[:, None] * size + np.arange(size)).reshape(-1)
    rest = np.delete(np.arange(len(weight)), rows)
    block, across = inverse[np.ix_(rows, rows)], inverse[np.ix_(rows, rest)]
    back = np.linalg.solve(block, np.hstack([across, weight[rows]]))
    lost = float((weight[rows] * back[:, len(rest) :]).sum())
    inverse = inverse[np.ix_(rest, rest)] - across.T @ back[:, : len(rest)]
    return lost, inverse, weight[rest] - across.T @ back[:, len(rest) :]
