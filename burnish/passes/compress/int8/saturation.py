"""Products of uint8 and int8 on processors that add two of them in 16 bits (x86 without VNNI).

ONNX Runtime's kernels for AVX2 and AVX-512 hand `vpmaddubsw` two neighbours of the inner axis at a
time (rows 2i and 2i + 1 of the weight): `a * v + b * w`, with a and b from 0 to 255, saturates at
the bounds of int16. Only then is it added in 32 bits. Zero points play no part: they are subtracted
afterwards. See `runtimes.targets` for the sources. Weights have no trouble with it where no two
neighbours of one sign add up to more than 128.

Halving the range of all weights would do (ONNX Runtime's `reduce_range`), but costs a bit
everywhere. Here a column gives up no more than its own neighbours ask for: on MiniLM the error of
the rounded weights is 0.0088, where 8 bits have 0.0070 and 7 bits 0.0141.

uint8 weights around 128 would be exact too: those kernels widen to 16 bits before they multiply
(`QgemmU8X8KernelAvx2.asm`, `vpmovzxbw` and `vpmaddwd`), half as many products with an instruction.
What that could gain is the step from 0.0088 to 0.0070, which the rounding of the activations (0.027
with both) all but hides, so there is no such form. ONNX Runtime makes that change itself at load
where it is told to (`session.x64quantprecision`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.contract import Array

LARGEST_PAIR = 128
"""What two neighbouring weights of one sign may add up to: 255 * 128 fits in int16, 255 * 129 not;
so does -255 * 128."""

CHUNK = 1 << 22
"""Elements of a weight that are looked at at a time."""


def pairs(matrix: Array, axis: int) -> tuple[Array, Array]:
    """The even and the odd elements along an axis, which comes first; a last one is with zero."""
    rows = np.moveaxis(matrix, axis, 0)
    if len(rows) % 2:
        rows = np.concatenate([rows, np.zeros_like(rows[:1])])
    return rows[::2], rows[1::2]


def largest_pairs(matrix: Array, axis: int) -> Array:
    """The largest magnitude of what is positive, or negative, in two neighbours along an axis.

    Args:
        matrix: two axes.
        axis: along which the neighbours are.

    Returns:
        float64 or int16, one for each element of the other axis.
    """
    wide = np.int16 if matrix.dtype.kind == "i" else np.float64
    even, odd = pairs(matrix.astype(wide), axis)
    above = np.maximum(even, 0) + np.maximum(odd, 0)
    below = np.minimum(even, 0) + np.minimum(odd, 0)
    return np.asarray(np.maximum(above.max(axis=0), -below.min(axis=0)))


def can_saturate(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Of each column of a weight [k, n], whether some activations let a sum of two saturate."""
    step = max(1, CHUNK // max(len(weights), 1))
    parts = [weights[:, at : at + step] for at in range(0, weights.shape[1], step)]
    return np.concatenate([largest_pairs(part, 0) > LARGEST_PAIR for part in parts])


def saturates(model: ir.Model) -> bool:
    """Whether a product of a model (`MatMulInteger` with constant int8 weights) can saturate."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        value = node.inputs[1] if node.op_type == "MatMulInteger" else None
        maker = value.producer() if value is not None else None
        turned = maker is not None and maker.op_type == "Transpose"
        value = maker.inputs[0] if maker is not None and turned else value
        tensor = value.const_value if value is not None else None
        if tensor is None or tensor.dtype is not ir.DataType.INT8 or len(tensor.shape) != 2:
            continue
        weights = tensor.numpy()
        if can_saturate(weights.T if turned else weights).any():
            return True
    return False


def product(
    activations: npt.NDArray[np.uint8], weights: npt.NDArray[np.int8]
) -> npt.NDArray[np.int32]:
    """The product as those kernels compute it, without zero points.

    Args:
        activations: [rows, k].
        weights: [k, n].

    Returns:
        int32 [rows, n].
    """
    total = np.zeros((len(activations), weights.shape[1]), np.int32)
    left = zip(*pairs(activations.astype(np.int32), 1), strict=True)
    right = zip(*pairs(weights.astype(np.int32), 0), strict=True)
    for (a, b), (v, w) in zip(left, right, strict=True):
        total += np.clip(np.outer(a, v) + np.outer(b, w), -(2**15), 2**15 - 1)
    return total
