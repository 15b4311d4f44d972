"""Which axes of a value run over sequences and over their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum

import onnx_ir as ir

from burnish.optimizer.analysis.probe import Probe
from burnish.optimizer.contract import Array
from burnish.optimizer.signature import Signature

PRIMES = ((3, 5), (7, 11), (13, 17), (19, 23), (29, 31), (37, 41), (43, 47), (53, 59), (61, 67))
"""Sizes of a dimension in the two probes; the batch's and the sequence's are the first."""


class Axis(Enum):
    """What an axis whose size is not fixed runs over."""

    BATCH = "sequences"
    SEQUENCE = "positions of a sequence"
    TOKENS = "all positions of all sequences, sequence by sequence"
    OTHER = "something else"


Dims = tuple[int | Axis, ...]


class Layout:
    """The axes of every value, found by comparing its shapes at two assignments of sizes.

    Args:
        model: stays as it is.
        mask: the input [batch, sequence] whose axes are looked for; both must be symbolic.
    """

    def __init__(self, model: ir.Model, mask: ir.Value) -> None:
        self.opset = model.opset_imports.get("", 0)
        sizes = _sizes(model, mask)
        self._probes = [
            Probe(model, {symbol: pair[index] for symbol, pair in sizes.items()})
            for index in (0, 1)
        ]

    def shapes(self, value: ir.Value) -> list[tuple[int, int]] | None:
        """The sizes of each axis in the two probes; None where they are not known."""
        first, second = (probe.shape(value) for probe in self._probes)
        if first is None or second is None or len(first) != len(second):
            return None
        return list(zip(first, second, strict=True))

    def dims(self, value: ir.Value | None) -> Dims | None:
        """The axes of a value; None where its shape is not known."""
        shapes = self.shapes(value) if value is not None else None
        return tuple(_axis(pair) for pair in shapes) if shapes is not None else None

    def elements(self, value: ir.Value | None) -> tuple[Array, Array] | None:
        """The elements of a small value, which depend on sizes at most, in the two probes."""
        first, second = (probe.elements(value) for probe in self._probes)
        return (first, second) if first is not None and second is not None else None

    def constant(self, value: ir.Value | None) -> Array | None:
        """The elements of a small value that do not even depend on sizes."""
        both = self.elements(value)
        same = both is not None and both[0].shape == both[1].shape and (both[0] == both[1]).all()
        return both[0] if both is not None and same else None

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type of a value."""
        return self._probes[0].dtype(value)

    def batch(self, value: ir.Value) -> int | None:
        """The one axis of a value over sequences; None where there is none, or several."""
        axes = [axis for axis, dim in enumerate(self.dims(value) or ()) if dim is Axis.BATCH]
        return axes[0] if len(axes) == 1 else None

    def aligned(self, value: ir.Value, axis: int) -> bool:
        """Whether an axis over positions is that of the sequences along the batch axis."""
        dims = self.dims(value)
        if dims is None:
            return False
        if dims[axis] is Axis.TOKENS:
            return True
        return dims[axis] is Axis.SEQUENCE and self.batch(value) is not None

    def index(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Batch and sequence in each of the two probes."""
        (first, second), (short, long) = PRIMES[:2]
        return (first, short), (second, long)

    def carried(self, node: ir.Node, axis: int) -> int | None:
        """Where an axis over positions of a view's input is in its output; None where nowhere."""
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        before, after = self.shapes(source), self.shapes(result)
        if before is None or after is None:
            return None
        if node.op_type == "Transpose":
            permutation = node.attributes.get_ints("perm", tuple(reversed(range(len(before)))))
            return list(permutation).index(axis)
        if not (_outermost(before, after) or _kept(before, after)):
            return None
        merged, apart = _merged(before), _apart(before)
        if axis == merged and _apart(after) is not None:
            return _apart(after)
        if axis == apart and _merged(after) is not None:
            return _merged(after)
        return next(_same_place(before, after, axis), None)


def _merged(shape: list[tuple[int, int]]) -> int | None:
    """The axis over all positions of all sequences, if nothing is before it."""
    found = (i for i, pair in enumerate(shape) if _axis(pair) is Axis.TOKENS)
    return next((i for i in found if _product(shape[:i]) == (1, 1)), None)


def _apart(shape: list[tuple[int, int]]) -> int | None:
    """The axis over positions, if nothing but sequences is before it."""
    found = (i for i, pair in enumerate(shape) if _axis(pair) is Axis.SEQUENCE)
    return next(
        (i for i in found if _batch(shape[:i]) is not None and _product(shape[:i]) == PRIMES[0]),
        None,
    )


def _batch(shape: list[tuple[int, int]]) -> int | None:
    """The axis over sequences; None where there is none."""
    return next((i for i, pair in enumerate(shape) if _axis(pair) is Axis.BATCH), None)


def _outermost(*shapes: list[tuple[int, int]]) -> bool:
    """Whether sequences, where a shape shows them, are the slowest of its axes.

    While they are, they are as well where they are merged with others in between.
    """
    places = [_batch(shape) for shape in shapes]
    return all(
        place is None or _product(shape[:place]) == (1, 1)
        for place, shape in zip(places, shapes, strict=True)
    )


def _kept(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> bool:
    """Whether the axis over sequences has as many elements before it as it had."""
    first, second = _batch(before), _batch(after)
    if first is None or second is None:
        return first is second
    return _product(before[:first]) == _product(after[:second])


def _same_place(
    before: list[tuple[int, int]], after: list[tuple[int, int]], axis: int
) -> Iterator[int]:
    """Axes of the same size with as many elements before them, in both probes."""
    stride = _product(before[:axis])
    for place in range(len(after)):
        if after[place] == before[axis] and _product(after[:place]) == stride:
            yield place


def _product(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    return math.prod(first for first, _ in pairs), math.prod(second for _, second in pairs)


def _axis(pair: tuple[int, int]) -> int | Axis:
    batch, sequence = PRIMES[:2]
    if pair[0] == pair[1]:
        return pair[0]
    if pair == batch:
        return Axis.BATCH
    if pair == sequence:
        return Axis.SEQUENCE
    both = (batch[0] * sequence[0], batch[1] * sequence[1])
    return Axis.TOKENS if pair == both else Axis.OTHER


def _sizes(model: ir.Model, mask: ir.Value) -> dict[str, tuple[int, int]]:
    assert mask.shape is not None
    own = [str(dim.value) for dim in mask.shape if not isinstance(dim, int)]
    rest = [
        size
        for port in Signature.of(model).inputs
        for size in port.shape or ()
        if isinstance(size, str) and size.isidentifier() and size not in own
    ]
    return dict(zip([*own, *dict.fromkeys(rest)], PRIMES, strict=False))
