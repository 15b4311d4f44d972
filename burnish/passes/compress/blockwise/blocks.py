"""Matrices in blocks of few bits, as `MatMulNBits` and `GatherBlockQuantized` read them.

A matrix [k, n] is stored by output channel: `codes` [n, blocks, size * bits / 8], `scales`
[n, blocks], `zeros` [n, bytes]. Codes of less than a byte lie in it lowest bits first.

Zeros are codes. As fractions, which half-quadratic quantization (HQQ, Badri and Shaji, 2023) finds,
ONNX Runtime 1.31 takes them with 4 bits only, and then makes a float matrix of the blocks in each
run; rounded they lose more than those of ranges do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array
from burnish.passes.compress.error_feedback import Grid

ELEMENTS = 1 << 22
"""Elements of a matrix that are worked on at a time."""

THREADS = 4
"""Parts that are worked on at once, at most: each takes several times its own size."""

SHRINKS = np.linspace(1.0, 0.6, 9)
"""Parts of a block's range that are tried: what is cut off may cost less than wider steps."""

FITS = 3
"""How often scales are fitted by least squares to codes, and codes to scales."""


@dataclass(frozen=True)
class Layout:
    """How weights are stored.

    Attributes:
        bits: 4 or 8.
        size: weights of a block, a power of two from 16 on.
        symmetric: whether zero is in the middle of the codes, and not stored.
        search: whether a block's scale and zero are searched for, not those of its weights' range:
            the part of the range that loses least, then the scale by least squares.
    """

    bits: int = 4
    size: int = 32
    symmetric: bool = False
    search: bool = True

    @property
    def top(self) -> int:
        """The largest code."""
        return int(2**self.bits - 1)

    @property
    def middle(self) -> int:
        """The code of zero where it is not stored."""
        return int(2 ** (self.bits - 1))

    def blocks(self, k: int) -> int:
        """Blocks of a column; the last may be filled up."""
        return -(-k // self.size)


@dataclass(frozen=True)
class Matrix:
    """A constant matrix [k, n], read by columns.

    Attributes:
        tensor: [k, n], or [n, k] where `transposed`.
        factors: of the rows [k], where the activation is divided by them; None for 1.
    """

    tensor: ir.TensorProtocol
    transposed: bool
    factors: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """`(k, n)`."""
        first, second = (int(size) for size in self.tensor.shape.numpy())
        return (second, first) if self.transposed else (first, second)

    def each(self, work: Callable[[slice, Array], None]) -> None:
        """Do something to some columns [k, some], float32, after the other, in several threads.

        numpy leaves the interpreter to others while it computes; parts are so large that it is what
        takes the time.
        """
        k, n = self.shape
        step = max(1, ELEMENTS // max(k, 1))
        stored = self.tensor.numpy()

        def do(start: int) -> None:
            part = slice(start, min(start + step, n))
            columns = stored[part].T if self.transposed else stored[:, part]
            columns = np.asarray(columns, np.float32)
            work(part, columns if self.factors is None else columns * self.factors[:, None])

        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(do, range(0, n, step)):
                pass


@dataclass(frozen=True)
class Quantized:
    """A matrix in blocks.

    Attributes:
        codes, scales: see the module.
        zeros: likewise; None where the layout is symmetric.
    """

    codes: ir.TensorProtocol
    scales: Array
    zeros: Array | None


def grid_of(columns: Array, layout: Layout) -> Grid:
    """The scales and zeros of the blocks of [k, n]; see `Layout.search`."""
    blocks = _in_blocks(columns, layout)
    best = _grid(blocks, layout, 1.0)
    if not layout.search:
        return best
    least = _loss(blocks, best)
    for shrink in SHRINKS[1:]:
        best, least = _better(best, least, _grid(blocks, layout, float(shrink)), blocks)
    for _ in range(FITS):
        best, least = _better(best, least, _fitted(blocks, best), blocks)
    return best


def _better(best: Grid, least: Array, other: Grid, blocks: Array) -> tuple[Grid, Array]:
    """For each block the grid that loses less, and what it loses [blocks, n]."""
    loss = _loss(blocks, other)
    better = loss < least
    zeros = best.zeros
    if not (isinstance(zeros, int) or isinstance(other.zeros, int)):
        zeros = np.where(better, other.zeros, zeros)
    scales = np.where(better, other.scales, best.scales)
    return Grid(scales, zeros, best.size, best.low, best.high), np.where(better, loss, least)


def _fitted(blocks: Array, grid: Grid) -> Grid:
    """The grid with the scales that lose least for the codes that it gives."""
    steps = _steps(blocks, grid)
    squares = (steps**2).sum(axis=1)
    usable = squares > 0
    scales = (steps * blocks).sum(axis=1) / np.where(usable, squares, 1.0)
    usable &= np.abs(scales) > np.finfo(np.float32).tiny
    scales = np.where(usable, scales, grid.scales).astype(np.float32)
    return Grid(scales, grid.zeros, grid.size, grid.low, grid.high)


def lost(columns: Array, layout: Layout) -> Array:
    """What rounding to the nearest within the blocks' own ranges adds to weights [k, n]."""
    blocks = _in_blocks(columns, layout)
    grid = _grid(blocks, layout, 1.0)
    errors = _steps(blocks, grid) * grid.scales[:, None, :] - blocks
    return np.asarray(errors.reshape(-1, columns.shape[1])[: len(columns)])


def nearest(columns: Array, grid: Grid) -> Array:
    """The codes [k, n] nearest to the weights, uint8."""
    scales, zeros = _by_row(grid, len(columns))
    codes = np.rint(columns / scales)
    codes += zeros
    return np.clip(codes, grid.low, grid.high, out=codes).astype(np.uint8)


def quantize(
    matrix: Matrix, layout: Layout, round_: Callable[[Array, Grid], Array] | None = None
) -> Quantized:
    """A matrix in blocks.

    Args:
        matrix: read twice, a part at a time: for the ranges now, for the codes when they are
            written.
        layout: how it is stored.
        round_: gives the codes [k, n] of some columns; they are then computed now, and kept.
    """
    k, n = matrix.shape
    count = layout.blocks(k)
    scales = np.empty((n, count), np.float32)
    zeros = None if layout.symmetric else np.empty((n, count), np.uint8)

    def measure(part: slice, columns: Array) -> None:
        grid = grid_of(columns, layout)
        scales[part] = grid.scales.T
        if zeros is not None and not isinstance(grid.zeros, int):
            zeros[part] = grid.zeros.T

    def compute() -> ir.TensorProtocol:
        packed = np.empty((n, count, layout.size * layout.bits // 8), np.uint8)

        def pack(part: slice, columns: Array) -> None:
            offsets = layout.middle if zeros is None else zeros[part].T.astype(np.float32)
            grid = Grid(scales[part].T, offsets, layout.size, 0, layout.top)
            packed[part] = _packed((round_ or nearest)(columns, grid), grid, layout)

        matrix.each(pack)
        return ir.Tensor(packed)

    matrix.each(measure)

    shape = ir.Shape((n, count, layout.size * layout.bits // 8))
    codes: ir.TensorProtocol = ir.LazyTensor(
        compute, dtype=ir.DataType.UINT8, shape=shape, cache=False
    )
    if round_ is not None:
        codes = compute()
    return Quantized(codes, scales, None if zeros is None else _bytes(zeros, layout.bits))


def _in_blocks(columns: Array, layout: Layout) -> Array:
    """[k, n] as [blocks, size, n]; what fills up the last block repeats the last row."""
    k, n = columns.shape
    missing = layout.blocks(k) * layout.size - k
    filled = np.concatenate([columns, np.repeat(columns[-1:], missing, 0)]) if missing else columns
    return filled.reshape(-1, layout.size, n)


def _grid(blocks: Array, layout: Layout, shrink: float) -> Grid:
    """The ranges of blocks [blocks, size, n], or parts of them."""
    low, high = blocks.min(axis=1) * shrink, blocks.max(axis=1) * shrink
    zeros: Array | int = layout.middle
    if layout.symmetric:
        # The side that reaches further gets the code that only one side has.
        scales = np.where(high > -low, high, low) / -layout.middle
    else:
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        scales = (high - low) / layout.top
    scales = np.where(np.abs(scales) > np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)
    if not layout.symmetric:
        zeros = np.clip(np.rint(-low / scales), 0, layout.top).astype(np.float32)
    return Grid(scales, zeros, layout.size, 0, layout.top)


def _loss(blocks: Array, grid: Grid) -> Array:
    """The squared error of each block, [blocks, n]."""
    values = _steps(blocks, grid) * grid.scales[:, None, :]
    return np.asarray(((values - blocks) ** 2).sum(axis=1))


def _steps(blocks: Array, grid: Grid) -> Array:
    """How many steps from zero the codes nearest to weights are, [blocks, size, n]."""
    zeros = grid.zeros if isinstance(grid.zeros, int) else grid.zeros[:, None, :]
    codes = np.rint(blocks / grid.scales[:, None, :])
    codes += zeros
    np.clip(codes, grid.low, grid.high, out=codes)
    return np.asarray(codes - zeros)


def _by_row(grid: Grid, k: int) -> tuple[Array, Array | int]:
    """Scales and zeros for each row [k, n]."""
    scales = np.repeat(grid.scales, grid.size, axis=0)[:k]
    if isinstance(grid.zeros, int):
        return scales, grid.zeros
    return scales, np.repeat(grid.zeros, grid.size, axis=0)[:k]


def _packed(codes: Array, grid: Grid, layout: Layout) -> Array:
    """Codes [k, n] as they are stored, [n, blocks, bytes]; what fills up stands for zero."""
    k, n = codes.shape
    count = layout.blocks(k)
    zeros = grid.zeros if isinstance(grid.zeros, int) else grid.zeros[-1]
    filled = np.empty((count * layout.size, n), np.uint8)
    filled[:k] = codes
    filled[k:] = np.asarray(zeros, np.uint8)
    return _bytes(filled.T.reshape(n, count, layout.size), layout.bits)


def _bytes(codes: Array, bits: int) -> Array:
    """Codes packed along the last axis, which is filled up with zeros to whole bytes."""
    if bits == 8:
        return np.ascontiguousarray(codes, np.uint8)
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    low, high = codes[..., 0::2], codes[..., 1::2]
    return np.ascontiguousarray(low | (high << 4), np.uint8)
