"""Symmetric int8 weights, one scale per channel, computed when they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.passes.compress.error_feedback import Feedback, Grid, rounded
from burnish.passes.compress.int8.saturation import LARGEST_PAIR, largest_pairs

FloatArray = npt.NDArray[np.float32]

CHUNK = 1 << 20
"""Elements worked on at a time: small enough for the cache, large enough for numpy."""

TOP = 127
"""The largest integer."""


@dataclass(frozen=True)
class Quantized:
    """A matrix as int8 with a scale per channel.

    Attributes:
        values: int8; [k, n] for a product, [rows, width] for a table.
        scales: float32 [n], or [rows] for a table; `values * scales` approximates the matrix.
    """

    values: ir.TensorProtocol
    scales: FloatArray


def channel_scales(matrix: FloatArray, axis: int, *, saturating: bool = False) -> FloatArray:
    """Largest magnitude of each channel over the largest integer; float32 [channels].

    `axis` is the channels' axis. A channel of zeros gets scale 1. With `saturating` it is the
    largest magnitude of two neighbours, so that they add up to no more than `LARGEST_PAIR` once
    they are rounded (each by half at most).

    Raises:
        ValueError: where the matrix holds NaN or infinity.
    """
    peaks = np.zeros(matrix.shape[axis], np.float32)
    for rows in _chunks(matrix):
        part = matrix[rows]
        if saturating:
            peak = largest_pairs(part, 1 - axis).astype(np.float32)
        else:
            peak = np.maximum(part.max(axis=1 - axis), -part.min(axis=1 - axis))
        if axis == 0:
            peaks[rows] = peak
        else:
            np.maximum(peaks, peak, out=peaks)
    if not np.isfinite(peaks).all():
        raise ValueError("the weight holds NaN or infinity")
    # Below the smallest normal number the quotient would overflow; such channels round to zero.
    usable = peaks > np.finfo(np.float32).tiny * TOP
    return np.where(usable, peaks / np.float32(TOP), np.float32(1.0)).astype(np.float32)


def round_to_int8(matrix: FloatArray, scales: FloatArray, axis: int) -> npt.NDArray[np.int8]:
    """The matrix over its channels' scales, rounded to nearest even; int8 of the same shape."""
    result = np.empty(matrix.shape, np.int8)
    inverse = np.float32(1.0) / scales
    for rows in _chunks(matrix):
        factor = inverse[rows, None] if axis == 0 else inverse[None, :]
        scaled = matrix[rows] * factor
        np.rint(scaled, out=scaled)
        result[rows] = scaled
    return result


def _chunks(matrix: FloatArray) -> list[slice]:
    step = max(2, CHUNK // max(matrix.shape[1], 1) // 2 * 2)  # neighbours stay together
    return [slice(start, start + step) for start in range(0, matrix.shape[0], step)]


def lazy(shape: Sequence[int], compute: Callable[[], npt.NDArray[Any]]) -> ir.LazyTensor:
    """An int8 tensor computed each time its bytes are asked for, and never kept."""
    return ir.LazyTensor(
        lambda: ir.Tensor(compute()),
        dtype=ir.DataType.INT8,
        shape=ir.Shape(shape),
        cache=False,
    )


def table(tensor: ir.TensorProtocol, *, saturating: bool) -> Quantized:
    """A lookup table [rows, width], one scale per row; `saturating` as of a product with it."""
    scales = channel_scales(tensor.numpy(), 0, saturating=saturating)
    values = lazy(
        tensor.shape.numpy(),
        lambda: round_to_int8(tensor.numpy(), scales, 0),
    )
    return Quantized(values, scales)


def operand(
    tensors: list[tuple[ir.TensorProtocol, bool]],
    factors: FloatArray | None = None,
    feedback: Feedback | None = None,
    *,
    saturating: bool = False,
) -> Quantized:
    """The right operand [k, n] of one product, or of several side by side.

    Args:
        tensors: matrices with whether each is stored as [n, k].
        factors: of the rows, [k], where the activation is divided by them.
        feedback: of the activation; with it the weights are rounded by error feedback, at once,
            else to the nearest when they are written.
        saturating: whether the processor adds products of two neighbours in 16 bits.
    """

    def matrix(tensor: ir.TensorProtocol, transposed: bool) -> FloatArray:
        array: FloatArray = tensor.numpy()
        if factors is None:
            return array
        return array * (factors[None, :] if transposed else factors[:, None])

    scales = [
        channel_scales(matrix(tensor, turned), 0 if turned else 1, saturating=saturating)
        for tensor, turned in tensors
    ]

    def compute() -> npt.NDArray[np.int8]:
        parts = []
        for (tensor, transposed), scale in zip(tensors, scales, strict=True):
            part = round_to_int8(matrix(tensor, transposed), scale, 0 if transposed else 1)
            parts.append(part.T if transposed else part)
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    first, transposed = tensors[0]
    k = first.shape.numpy()[1 if transposed else 0]
    channels = np.concatenate(scales)
    if feedback is None:
        return Quantized(lazy((k, len(channels)), compute), channels)
    whole = np.concatenate([matrix(*item).T if item[1] else matrix(*item) for item in tensors], 1)
    pair = LARGEST_PAIR if saturating else None
    codes = rounded(whole, feedback, Grid(channels[None, :], 0, k, -TOP, TOP, pair))
    return Quantized(ir.Tensor(codes.astype(np.int8)), channels)
