"""A transform of n = n1 n2 elements in two steps (Cooley and Tukey, 1965), each a product.

With `j = n2 j1 + j2` and `k = k1 + n1 k2`

    X[k1 + n1 k2] = sum_j2 e(j2 k2 / n2) e(j2 k1 / n) sum_j1 e(j1 k1 / n1) x[n2 j1 + j2]

where `e(t) = exp(-2 pi i t)`: products with matrices of n1 and n2, and factors between them.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.spectra import Matrix, Transform, factors
from burnish.optimizer.contract import Array
from burnish.passes.restructure.spectral.planes import Parts
from burnish.passes.restructure.spectral.products import turned_by
from burnish.passes.restructure.spectral.writer import Writer

STEPS = "two steps"

LEAST = 256
"""The shortest transform that is tried in two steps."""


def why_not_steps(transform: Transform) -> str:
    """Why a transform cannot be computed in two steps; empty where it can."""
    length = transform.length.number
    if length is None or transform.present.number != length:
        return "its length is not known, or not that of its operand"
    if transform.axis != transform.rank - 2 or transform.gives_real:
        return "it is not along the last axis, or gives real numbers"
    if length < LEAST or (found := factors(length)) is None or found[1] < 8:
        return "its length is small, or has no two factors of like size"
    return ""


def in_steps(transform: Transform, parts: Parts, wanted: Collection[int], writer: Writer) -> Parts:
    """The wanted parts of the result, in two steps."""
    length = transform.length.number
    found = factors(length) if length is not None else None
    assert length is not None and found is not None
    (first, second), inverse, leading = found, transform.inverse, transform.rank - 2
    real, imaginary = (
        writer.reshaped(part, leading, first, second) if part is not None else None
        for part in parts
    )
    planes = from_left((real, imaginary), Matrix(first, first, first, inverse), writer)
    planes = twisted(planes, twiddles(first, second, length, inverse), writer)
    planes = from_right(planes, Matrix(second, second, second, inverse), wanted, writer)
    real, imaginary = (
        _in_order(plane, transform, length, writer) if plane is not None else None
        for plane in planes
    )
    return real, imaginary


def _in_order(plane: ir.Value, transform: Transform, length: int, writer: Writer) -> ir.Value:
    """The elements k1 + n1 k2 of a result [..., n1, n2], as far as they are given."""
    leading = transform.rank - 2
    plane = writer.node("Transpose", plane, perm=[*range(leading), leading + 1, leading])
    plane = writer.reshaped(plane, leading, length)
    return writer.sliced(plane, 0, length // 2 + 1) if transform.onesided else plane


def from_left(planes: Parts, matrix: Matrix, writer: Writer, *wanted: int) -> Parts:
    """A complex matrix times a value [..., n, m]; both parts where not told."""

    def times(part: str, value: ir.Value) -> ir.Value:
        return writer.node("MatMul", writer.matrix(matrix, part, False), value)

    return turned_by(times, planes, wanted or (0, 1), writer)


def from_right(planes: Parts, matrix: Matrix, wanted: Collection[int], writer: Writer) -> Parts:
    """The wanted parts of a value [..., m, n] times a complex matrix, turned."""

    def times(part: str, value: ir.Value) -> ir.Value:
        return writer.node("MatMul", value, writer.matrix(matrix, part, True))

    return turned_by(times, planes, wanted, writer)


def twiddles(first: int, second: int, length: int, inverse: bool) -> tuple[Array, Array]:
    """The factors between the steps, [n1, n2]: cosines and sines."""
    angles = np.outer(np.arange(first), np.arange(second)) * (2 * math.pi / length)
    sign = 1.0 if inverse else -1.0
    return np.cos(angles).astype(np.float32), (sign * np.sin(angles)).astype(np.float32)


def twisted(planes: Parts, factor: tuple[Array, Array], writer: Writer) -> Parts:
    """The parts of a complex value times constants."""
    real, imaginary = planes
    assert real is not None and imaginary is not None
    cosine, sine = (
        writer.array((name, part.shape, part.tobytes()), name, part)
        for name, part in zip(("twiddle_cosine", "twiddle_sine"), factor, strict=True)
    )
    return (
        writer.node("Sub", writer.node("Mul", real, cosine), writer.node("Mul", imaginary, sine)),
        writer.node("Add", writer.node("Mul", real, sine), writer.node("Mul", imaginary, cosine)),
    )
