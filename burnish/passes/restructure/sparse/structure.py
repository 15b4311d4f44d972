"""What the zeros of a matrix leave: blocks that hold all other elements, or two smaller factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array

MOST_BLOCKS = 64
"""Blocks that a matrix is taken apart into."""

TILE = 16
"""Rows and columns of the tiles in which blocks are looked for where columns differ singly."""

EXACT = 1e-6
"""Relative L2 error of a Kronecker product that is one but for rounding."""

SAMPLED = 64
"""Elements that a pair of factors is tried on first."""

LINES = 64
"""Rows that are looked at before a whole matrix is."""


def without_zeros(matrix: Array) -> bool:
    """Whether rows spread over a matrix hold no zero, as those of nearly all weights.

    It reads little where weights are mapped and not in memory. A matrix with a tenth of zeros, be
    they columns, blocks or rows in no order, is missed once in a thousand times.
    """
    stored = matrix if matrix.flags.c_contiguous else matrix.T
    rows = np.linspace(0, len(stored) - 1, min(LINES, len(stored)), dtype=np.int64)
    return bool((stored[rows] != 0).all())


def dead(matrix: Array, axis: int) -> Array:
    """Which rows (axis 1) or columns (axis 0) of a matrix are all zeros.

    Those of which an element that lies together with others is none are not read any further.
    """
    zero = np.asarray(~np.take(matrix, np.arange(min(TILE, matrix.shape[axis])), axis).any(axis))
    left = np.flatnonzero(zero)
    if len(left):
        zero[left] = ~np.take(matrix, left, 1 - axis).any(axis)
    return zero


@dataclass(frozen=True)
class Block:
    """Rows and columns of a matrix, ascending indices; no two blocks share a column."""

    rows: Array
    columns: Array

    @property
    def work(self) -> int:
        """Multiplications for each row of the left operand."""
        return len(self.rows) * len(self.columns)


def components(mask: Array) -> list[Block]:
    """The blocks that share neither rows nor columns; one where there would be too many.

    They are the connected components of the graph between rows and columns that the elements other
    than zero are the edges of, so that no order of rows or columns hides them.

    Args:
        mask: where the matrix [k, n] is other than zero.
    """
    left: Array = np.array(mask.any(1))
    found: list[Block] = []
    while left.any():
        if len(found) == MOST_BLOCKS:
            return [Block(np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0)))]
        rows = np.zeros(len(mask), bool)
        rows[np.argmax(left)] = True
        while True:
            columns = mask[rows].any(0)
            reached = np.array(mask[:, columns].any(1))
            if (reached == rows).all():
                break
            rows = reached
        found.append(Block(np.flatnonzero(rows), np.flatnonzero(columns)))
        left &= ~rows
    return found


def by_support(mask: Array) -> list[Block]:
    """Columns together that need the same rows; in tiles where single columns all differ."""
    columns = np.flatnonzero(mask.any(0))
    supports, which = np.unique(mask[:, columns].T, axis=0, return_inverse=True)
    if len(supports) <= MOST_BLOCKS:
        return [
            Block(np.flatnonzero(support), columns[which.ravel() == index])
            for index, support in enumerate(supports)
        ]
    tiles = _tiled(mask)
    supports, which = np.unique(tiles.T, axis=0, return_inverse=True)
    if len(supports) > MOST_BLOCKS:
        return [Block(np.flatnonzero(mask.any(1)), columns)]
    groups = np.repeat(which.ravel(), TILE)[: mask.shape[1]]
    found = []
    for index, support in enumerate(supports):
        rows = np.flatnonzero(np.repeat(support, TILE)[: mask.shape[0]])
        if len(rows):
            found.append(Block(rows, np.flatnonzero(groups == index)))
    return found


def _tiled(mask: Array) -> Array:
    """Which tiles hold anything."""
    height, width = (-(-size // TILE) for size in mask.shape)
    padded = np.zeros((height * TILE, width * TILE), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(height, TILE, width, TILE).any((1, 3)))


def fewer(blocks: Sequence[Block], most: int) -> list[Block]:
    """At most so many blocks: those are joined first that make the least work more."""
    found = list(blocks)
    while len(found) > most:
        pairs = [(i, j) for i in range(len(found)) for j in range(i)]
        joined = {pair: _joined(found[pair[0]], found[pair[1]]) for pair in pairs}
        best = min(pairs, key=lambda p: joined[p].work - found[p[0]].work - found[p[1]].work)
        found = [item for index, item in enumerate(found) if index not in best] + [joined[best]]
    return sorted(found, key=lambda block: int(block.columns[0]))


def _joined(first: Block, second: Block) -> Block:
    return Block(np.union1d(first.rows, second.rows), np.union1d(first.columns, second.columns))


@dataclass(frozen=True)
class Kronecker:
    """`W[i * c + p, j * d + q] = left[i, j] * right[p, q]`: left [a, b], right [c, d]."""

    left: Array
    right: Array

    @property
    def work(self) -> int:
        """Multiplications for each row of the left operand, in the better order."""
        (a, b), (c, d) = self.left.shape, self.right.shape
        if self.repeated:
            return int(a * c * d)
        return int(min(a * c * d + a * b * d, a * b * c + b * c * d))

    @property
    def repeated(self) -> bool:
        """Whether the left factor is one, so that the right one is there for each of its rows."""
        return np.array_equal(self.left, np.eye(*self.left.shape))

    @property
    def right_first(self) -> bool:
        """Whether the better order multiplies with the right factor first."""
        (a, b), (c, d) = self.left.shape, self.right.shape
        return bool(a * c * d + a * b * d <= a * b * c + b * c * d)


def kronecker(matrix: Array) -> Kronecker | None:
    """The factors with the least work whose Kronecker product a matrix is; None where none are.

    Rearranged into a row for each block of the size of the right factor, such a matrix has rank one
    (Van Loan and Pitsianis, 1993). Each pair of sizes is tried on a few elements first.
    """
    random = np.random.default_rng(0)
    at = tuple(random.integers(0, size, SAMPLED) for size in matrix.shape)
    largest = int(np.argmax(np.abs(matrix[at])))
    pivot = (int(at[0][largest]), int(at[1][largest]))
    if not matrix[pivot]:
        return None
    best: Kronecker | None = None
    for sizes in _sizes(matrix.shape):
        if not _plausible(matrix, pivot, at, sizes):
            continue
        found = _factored(matrix, pivot, sizes)
        if found is not None and (best is None or found.work < best.work):
            best = found
    return best


def _sizes(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Sizes that the right factor may have."""
    for c in _divisors(shape[0]):
        for d in _divisors(shape[1]):
            if (c, d) not in ((1, 1), shape):
                yield c, d


def _divisors(number: int) -> list[int]:
    return [item for item in range(1, number + 1) if number % item == 0]


def _plausible(
    matrix: Array,
    pivot: tuple[int, int],
    at: tuple[Array, ...],
    sizes: tuple[int, int],
) -> bool:
    """Whether elements that a Kronecker product relates are so, as far as a few of them tell."""
    outer = tuple(
        index // size * size + p % size for index, size, p in zip(at, sizes, pivot, strict=True)
    )
    inner = tuple(
        p // size * size + index % size for index, size, p in zip(at, sizes, pivot, strict=True)
    )
    products = matrix[outer].astype(np.float64) * matrix[inner]
    expected = matrix[at].astype(np.float64) * matrix[pivot]
    return bool((np.abs(products - expected) <= 1e-4 * np.abs(expected)).all())


def _factored(matrix: Array, pivot: tuple[int, int], sizes: tuple[int, int]) -> Kronecker | None:
    """The factors of these sizes; None where their product is not the matrix."""
    c, d = sizes
    blocks = matrix.reshape(matrix.shape[0] // c, c, matrix.shape[1] // d, d).astype(np.float64)
    right = blocks[pivot[0] // c, :, pivot[1] // d]
    left = np.einsum("icjd,cd->ij", blocks, right) / (right**2).sum()
    right = np.einsum("icjd,ij->cd", blocks, left) / (left**2).sum()
    lost = np.linalg.norm(blocks - left[:, None, :, None] * right[None, :, None, :])
    if lost > EXACT * np.linalg.norm(blocks):
        return None
    first = float(left[0, 0])
    if first and np.allclose(left, first * np.eye(*left.shape), rtol=EXACT, atol=0):
        left, right = np.eye(*left.shape), right * first
    return Kronecker(left.astype(matrix.dtype), right.astype(matrix.dtype))
