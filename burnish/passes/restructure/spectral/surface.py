"""The real part of a transform along both of the last axes of a real value [..., s, h].

`Re(F_s x F_h) = C_s x C_h - S_s x S_h`. Column h - l of a cosine matrix is column l, that of a sine
matrix its negative, and so are their rows. So the rest of the result mirrors a part of it, with
sums where that has differences; and what a row of the matrix has in common for two elements of the
operand is their sum, or their difference.
"""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.spectra import Matrix, Transform
from burnish.passes.restructure.spectral.products import Whole
from burnish.passes.restructure.spectral.writer import Writer

HALVES = "halves"
QUARTERS = "quarters"

SHORTEST = 4
"""Elements below which a half is not worth its name."""


def forms_of_surface(first: Transform, second: Transform) -> tuple[str, ...]:
    """The forms besides whole matrices: halves need the last length, quarters both."""
    down, across = sorted((first, second), key=lambda item: item.axis)
    known = [(item.length.number or 0) >= SHORTEST for item in (across, down)]
    return (HALVES, QUARTERS)[: known.index(False) if False in known else 2]


def halves(first: Transform, second: Transform, value: ir.Value, writer: Writer) -> ir.Value:
    """Half of the columns, and their mirror."""
    down, across = sorted((first, second), key=lambda item: item.axis)
    length = across.length.number
    assert length is not None
    half, whole = Whole(across, writer, half=True), Whole(down, writer)
    cosines, sines = (whole.times(part, half.times(part, value)) for part in ("cosine", "sine"))
    left = writer.node("Sub", cosines, sines)
    right = writer.node("Add", cosines, sines)
    return writer.node("Concat", left, _mirrored(right, length, -1, writer), axis=-1)


def quarters(first: Transform, second: Transform, value: ir.Value, writer: Writer) -> ir.Value:
    """Half of the rows and columns, of an operand that is folded over along its rows."""
    down, across = sorted((first, second), key=lambda item: item.axis)
    rows, columns = down.length.number, across.length.number
    assert rows is not None and columns is not None
    kept, half = rows // 2 + 1, Whole(across, writer, half=True)
    leading = [0] * down.axis
    begin = writer.sliced(value, 0, kept, -2)
    bounds = (rows - 1, kept - 1, -2, -1)
    end = writer.node("Slice", value, *(writer.numbers(item) for item in bounds))
    # Row j meets row s - j; the first has no partner, nor the middle one of an even number.
    pads = [*leading, 1, 0, *leading, 2 * kept - rows - 1, 0]
    end = writer.node("Pad", end, writer.numbers(*pads))
    folded = {
        "cosine": writer.node("Add", begin, end), "sine": writer.node("Sub", begin, end)
    }  # fmt: skip
    square = Matrix(rows, kept, kept)
    cosines, sines = (
        half.times(part, writer.node("MatMul", writer.matrix(square, part, False), operand))
        for part, operand in folded.items()
    )
    differences = writer.node("Sub", cosines, sines)
    sums = writer.node("Add", cosines, sines)
    top, bottom = (
        writer.node("Concat", one, _mirrored(other, columns, -1, writer), axis=-1)
        for one, other in ((differences, sums), (sums, differences))
    )
    return writer.node("Concat", top, _mirrored(bottom, rows, -2, writer), axis=-2)


def _mirrored(value: ir.Value, length: int, axis: int, writer: Writer) -> ir.Value:
    """What follows the first length // 2 + 1 elements: those from 1 on, backwards."""
    bounds = ((length - 1) // 2, 0, axis, -1)
    return writer.node("Slice", value, *(writer.numbers(item) for item in bounds))
