"""Weights made of other weights: each is computed while it is written, and never kept.

A model's weights may be mapped and larger than memory. What a pass makes of them is a
`onnx_ir.LazyTensor` with its type and shape, whose elements exist only while somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array


@dataclass(frozen=True)
class Part:
    """A constant as it goes into another one.

    Attributes:
        tensor: None stands for zeros of the given shape.
        shape: as it is stored.
        transposed: whether its two axes are swapped first.
        factor: a scalar, or an array that broadcasts to what was swapped.
    """

    tensor: ir.TensorProtocol | None
    shape: tuple[int, ...]
    transposed: bool = False
    factor: float | Array = 1.0

    def array(self, dtype: ir.DataType) -> Array:
        """The elements in `dtype`; products are rounded once."""
        if self.tensor is None:
            return np.zeros(self.shape, dtype.numpy())
        array = self.tensor.numpy()
        array = array.T if self.transposed else array
        if isinstance(self.factor, float) and self.factor == 1.0:
            return array
        return (array * np.asarray(self.factor, np.float32)).astype(dtype.numpy())

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of `array`."""
        return self.shape[::-1] if self.transposed else self.shape


def side_by_side(parts: Sequence[Part], dtype: ir.DataType) -> ir.LazyTensor:
    """The parts along their last axis; the other axes are as long in each."""
    width = sum(part.result[-1] for part in parts)
    shape = (*parts[0].result[:-1], width)

    def compute() -> Array:
        whole = np.empty(shape, dtype.numpy())
        start = 0
        for part in parts:
            end = start + part.result[-1]
            whole[..., start:end] = part.array(dtype)
            start = end
        return whole

    return lazy(shape, dtype, compute)


def lazy(shape: Sequence[int], dtype: ir.DataType, compute: Callable[[], Array]) -> ir.LazyTensor:
    """A tensor computed each time its elements are asked for."""
    return ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(compute())),
        dtype=dtype,
        shape=ir.Shape(shape),
        cache=False,
    )


def selected(part: Part, rows: Array | None, columns: Array | None) -> ir.LazyTensor:
    """Some rows and columns of a matrix, by their indices; None for all.

    A column of -1 is one of zeros.
    """
    assert part.tensor is not None
    height, width = part.result
    shape = (height if rows is None else len(rows), width if columns is None else len(columns))
    dtype = part.tensor.dtype

    def compute() -> Array:
        array = part.array(dtype)
        array = array if rows is None else array[rows]
        if columns is None:
            return array
        return np.where(columns < 0, np.zeros((), array.dtype), array[:, columns])

    return lazy(shape, dtype, compute)
