"""How the elements of a tensor that are other than zero are stored, and how many bytes that takes.

Two forms, both of a tensor as one row of elements:

    mask     a bit for each element, and the values of those whose bit is 1
    steps    for each value how far it is from the one before, in 8 or 16 bits; where a gap is
             wider, zeros are stored as values on the way

Rows with offsets (CSR) are no form of their own: columns of 16 bits and offsets of 32 take more
than steps of 16 bits wherever a row has fewer than 43,690 columns (6 bytes a value either way, 4
for each row, against 6 for each 65,535 elements without a value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array

MASK = "mask"
STEPS: Mapping[str, type[np.unsignedinteger]] = {"8-bit steps": np.uint8, "16-bit steps": np.uint16}

LENGTH = 1 << 31
"""Elements from which on positions do not fit in the integers that the graph counts in."""


@dataclass(frozen=True)
class Encoding:
    """The smallest form of a tensor.

    Attributes:
        form: `MASK` or one of `STEPS`.
        count: elements that are other than zero.
        nbytes: of all that is stored.
    """

    form: str
    count: int
    nbytes: int


def count_nonzero(tensor: ir.TensorProtocol) -> int:
    """How many elements are other than zero."""
    return int(np.count_nonzero(tensor.numpy()))


def smallest(tensor: ir.TensorProtocol) -> Encoding:
    """The form that takes the fewest bytes."""
    positions = _positions(tensor)
    count, width = len(positions), int(tensor.dtype.itemsize)
    sizes = {MASK: -(-int(tensor.size) // 8) + (count + 1) * width}
    for form, kind in STEPS.items():
        stored = count + int(_fillers(positions, kind).sum())
        sizes[form] = max(stored, 1) * (np.dtype(kind).itemsize + width)
    form = min(sizes, key=sizes.__getitem__)
    return Encoding(form, count, sizes[form])


def _fillers(positions: Array, kind: type[np.unsignedinteger]) -> Array:
    """How many zeros are stored before each value, so that no step is wider than its type."""
    gaps = np.diff(positions, prepend=0)
    return np.asarray(np.maximum(gaps - 1, 0) // int(np.iinfo(kind).max))


def with_fillers(positions: Array, kind: type[np.unsignedinteger]) -> Array:
    """The positions, and those of the zeros that are stored on the way to them."""
    widest = int(np.iinfo(kind).max)
    fillers = _fillers(positions, kind)
    before = np.repeat(positions - fillers * widest, fillers)
    # Number the fillers of each gap from 0.
    starts = np.repeat(np.cumsum(fillers) - fillers, fillers)
    between = before + (np.arange(len(before)) - starts) * widest
    found = np.sort(np.concatenate([positions, between]))
    return found if len(found) else np.zeros(1, np.int64)


def parts_of(tensor: ir.TensorProtocol, form: str) -> dict[str, Callable[[], Array]]:
    """What is stored, by name; each is computed when it is written."""
    if form == MASK:
        return {
            "values": lambda: _after_zero(tensor),
            "mask": lambda: np.packbits(_flat(tensor) != 0, bitorder="little"),
        }
    kind = STEPS[form]
    return {
        "values": lambda: _flat(tensor)[with_fillers(_positions(tensor), kind)],
        "steps": lambda: np.diff(with_fillers(_positions(tensor), kind), prepend=0).astype(kind),
    }


def _after_zero(tensor: ir.TensorProtocol) -> Array:
    """The values behind a zero, which all other elements are read from."""
    flat = _flat(tensor)
    return np.concatenate([np.zeros(1, flat.dtype), flat[_positions(tensor)]])


def _flat(tensor: ir.TensorProtocol) -> Array:
    return np.ascontiguousarray(tensor.numpy()).reshape(-1)


def _positions(tensor: ir.TensorProtocol) -> Array:
    return np.flatnonzero(_flat(tensor))
