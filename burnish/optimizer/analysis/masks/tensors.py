"""Tensors of terms: a shape, and what the element at each position is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.rewrite import substitute
from burnish.optimizer.analysis.masks.terms import (
    ONE,
    ZERO,
    Term,
    add,
    const,
    index,
    is_const,
    pick,
)

LONGEST = 16
"""Elements of the longest vector that is kept as a list of terms."""


class Unsupported(Exception):
    """An operator that is not followed here; its output is looked up as it is."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor whose elements are terms.

    Attributes:
        dtype: of the elements.
        shape: sizes of the axes.
        formula: makes the element at positions `index(axis, size)`; called at most once.
        assumed: what must hold of the inputs for the formula to be right.
        sources: the tensors that the formula reads.
    """

    dtype: ir.DataType
    shape: tuple[Term, ...]
    formula: Callable[[], Term]
    assumed: frozenset[str] = field(default=frozenset())
    sources: tuple[Tensor, ...] = ()

    @functools.cached_property
    def element(self) -> Term:
        """The element at the positions along the tensor's own axes."""
        # Those of its sources come first, so that a long chain is no deep recursion.
        stack = list(self.sources)
        while stack:
            source = stack[-1]
            missing = [item for item in source.sources if "element" not in item.__dict__]
            if "element" in source.__dict__ or not missing:
                stack.pop()
                _ = source.element
            else:
                stack += missing
        return self.formula()

    def at(self, positions: Iterable[Term]) -> Term:
        """The element at other positions."""
        return substitute(
            self.element,
            {
                index(axis, extent): position
                for axis, (extent, position) in enumerate(zip(self.shape, positions, strict=True))
                if extent is not ONE and position is not index(axis, extent)
            },
        )

    @property
    def items(self) -> list[Term]:
        """The elements of a short vector (a scalar is one of one).

        Raises:
            Unsupported: it is none.
        """
        if not self.shape:
            return [self.element]
        if len(self.shape) > 1 or self.shape[0].op != "const" or self.shape[0].value > LONGEST:
            raise Unsupported("not a short vector")
        return [self.at([const(place)]) for place in range(self.shape[0].value)]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def axis(self, number: int) -> int:
        """An axis counted from the first."""
        return number % max(1, self.rank)

    def positions(self) -> list[Term]:
        """The positions along the tensor's axes."""
        return [index(axis, extent) for axis, extent in enumerate(self.shape)]


def vector(dtype: ir.DataType, items: Iterable[Term]) -> Tensor:
    """A short vector of terms."""
    parts = tuple(items)
    length = const(len(parts))
    return Tensor(dtype, (length,), lambda: pick(index(0, length), parts) if parts else ZERO)


def broadcast(tensors: Iterable[Tensor]) -> tuple[tuple[Term, ...], frozenset[str]]:
    """The shape that tensors have together, and which sizes that takes for equal."""
    shapes = [tensor.shape for tensor in tensors]
    rank = max((len(shape) for shape in shapes), default=0)
    result, assumed = [], set()
    for place in range(-rank, 0):
        sizes = list(dict.fromkeys(shape[place] for shape in shapes if len(shape) >= -place))
        wide = [item for item in sizes if item is not ONE]
        numbers = [item for item in wide if item.op == "const"]
        if len(numbers) > 1:
            raise Unsupported("sizes that do not fit")
        chosen = min(wide, key=lambda item: (item.op != "const", item.weight), default=ONE)
        assumed |= {f"{chosen} == {other}" for other in wide if other is not chosen}
        result.append(chosen)
    return tuple(result), frozenset(assumed)


def aligned(tensor: Tensor, shape: tuple[Term, ...]) -> list[Term]:
    """The positions of a tensor's elements in a shape that it is broadcast to."""
    offset = len(shape) - tensor.rank
    return [
        ZERO if extent is ONE else index(axis + offset, shape[axis + offset])
        for axis, extent in enumerate(tensor.shape)
    ]


def elementwise(function: Callable[..., Term], tensors: list[Tensor], dtype: ir.DataType) -> Tensor:
    """A function of the elements of tensors that are broadcast."""
    shape, assumed = broadcast(tensors)
    return Tensor(
        dtype,
        shape,
        lambda: function(*(tensor.at(aligned(tensor, shape)) for tensor in tensors)),
        assumed.union(*(tensor.assumed for tensor in tensors)),
    )


def moved(
    tensor: Tensor, shape: tuple[Term, ...], positions: Callable[[], Iterable[Term]]
) -> Tensor:
    """A tensor whose elements are those of another at other positions."""
    return Tensor(tensor.dtype, shape, lambda: tensor.at(positions()), tensor.assumed)


def clamped(position: Term, extent: Term) -> Term:
    """A bound of a slice as a place from the start."""
    if position.op == "const":
        if position.value < 0:
            return call("max", add(extent, position), ZERO)
        if position.value >= 2**31 - 1 or is_const(position, 0):
            return extent if position.value else ZERO
    return call("min", position, extent)
