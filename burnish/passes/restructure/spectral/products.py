"""The forms of a transform: products with its matrices, whole or in two steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.spectra import Matrix, Transform
from burnish.passes.restructure.spectral.planes import Parts
from burnish.passes.restructure.spectral.writer import Writer

PRODUCTS = "products"

LARGEST = 1 << 24
"""Elements of the largest matrix that is written (64 MB)."""


def matrix_of(transform: Transform) -> Matrix | None:
    """The matrix of a transform; None where its length is known in a run only."""
    present, length = transform.present.number, transform.length.number
    if present is None or length is None:
        return None
    one = transform.onesided and not transform.inverse
    given = length // 2 + 1 if one else length
    return Matrix(length, present, given, transform.inverse, transform.onesided)


def products(transform: Transform, parts: Parts, wanted: Collection[int], writer: Writer) -> Parts:
    """The wanted parts of the result, as products with a cosine and a sine matrix."""
    return turned_by(Whole(transform, writer).times, parts, wanted, writer)


def turned_by(
    times: Callable[[str, ir.Value], ir.Value],
    parts: Parts,
    wanted: Collection[int],
    writer: Writer,
) -> Parts:
    """The wanted parts of `cosine + i sine` times a value, by what multiplies one part with one.

    A value without imaginary part needs half of the products, and so does a result of which
    nobody reads one part.
    """
    real, imaginary = parts
    assert real is not None
    results: list[ir.Value | None] = []
    for part, own, other, joint in ((0, "cosine", "sine", "Sub"), (1, "sine", "cosine", "Add")):
        result = times(own, real) if part in wanted else None
        if result is not None and imaginary is not None:
            result = writer.node(joint, result, times(other, imaginary))
        results.append(result)
    return results[0], results[1]


@dataclass(frozen=True)
class Whole:
    """The matrices of a transform, constant or, where its length is not known, made in the graph.

    Attributes:
        transform: along an axis of values that have lost the axis of parts.
        writer: of the graph.
        half: whether to give the first n // 2 + 1 elements only, of a known n.
    """

    transform: Transform
    writer: Writer
    half: bool = False

    def times(self, part: str, value: ir.Value) -> ir.Value:
        """A part of a value, times the cosine or the sine matrix."""
        axis, axes, writer = self.transform.axis, self.transform.rank - 1, self.writer
        if axis == axes - 2:
            return writer.node("MatMul", self._matrix(part, value, turned=False), value)
        if axis == axes - 1:
            return writer.node("MatMul", value, self._matrix(part, value, turned=True))
        order = [*range(axis), axes - 1, *range(axis + 1, axes - 1), axis]
        last = writer.node("Transpose", value, perm=order)
        product = writer.node("MatMul", last, self._matrix(part, value, turned=True))
        return writer.node("Transpose", product, perm=order)

    def _matrix(self, part: str, value: ir.Value, *, turned: bool) -> ir.Value:
        """The cosine or the sine matrix [given, present] for a value, or turned."""
        known = matrix_of(self.transform)
        if known is None:
            return self._made(part, value, turned)
        if self.half:
            known = replace(known, given=known.length // 2 + 1)
        return self.writer.matrix(known, part, turned)

    def _made(self, part: str, value: ir.Value, turned: bool) -> ir.Value:
        """The matrix for a length that only a run tells: a table of n, gathered at `j k mod n`."""
        writer, inverse = self.writer, self.transform.inverse
        turns, angles, length = self._turns(value, turned)
        made = (self._key(turned), part, inverse)
        if made not in writer.store.made:
            table = writer.node("Cos" if part == "cosine" else "Sin", angles)
            if part == "sine" and not inverse:
                table = writer.node("Neg", table)
            if inverse:
                table = writer.node("Div", table, length)
            writer.store.made[made] = writer.node("Gather", table, turns, axis=0)
        return writer.store.made[made]

    def _key(self, turned: bool) -> tuple[object, ...]:
        one = self.transform.onesided and not self.transform.inverse
        return (self.writer.graph, self.transform.present, one, turned)

    def _turns(self, value: ir.Value, turned: bool) -> tuple[ir.Value, ir.Value, ir.Value]:
        """`j k mod n`, the angles of one turn in n steps, and n as a real number."""
        writer, whole, axis = self.writer, ir.DataType.INT64, self.transform.axis
        key = self._key(turned)
        if key in writer.store.turns:
            return writer.store.turns[key]
        length = writer.node("Shape", value, kind=whole, start=axis, end=axis + 1)
        length = writer.node("Squeeze", length, writer.numbers(0), kind=whole)
        zero, one = writer.number(0), writer.number(1)
        columns = rows = writer.node("Range", zero, length, one, kind=whole)
        if key[2]:
            half = writer.node("Div", length, writer.number(2), kind=whole)
            half = writer.node("Add", half, one, kind=whole)
            rows = writer.node("Range", zero, half, one, kind=whole)
        down, across = (columns, rows) if turned else (rows, columns)
        down = writer.node("Unsqueeze", down, writer.numbers(-1), kind=whole)
        turns = writer.node("Mul", down, across, kind=whole)
        turns = writer.node("Mod", turns, length, kind=whole)
        size = writer.node("Cast", length, to=int(ir.DataType.FLOAT))
        step = writer.node("Div", writer.real(2 * math.pi), size)
        angles = writer.node("Mul", writer.node("Cast", columns, to=int(ir.DataType.FLOAT)), step)
        writer.store.turns[key] = turns, angles, size
        return writer.store.turns[key]
