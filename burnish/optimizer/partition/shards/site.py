"""What rules are told of a node, and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.contract import Array
from burnish.optimizer.partition.shards.layout import Layout

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class Facts:
    """Shapes of a model's values at two assignments of sizes: what differs is not fixed.

    Args:
        first: by name.
        second: likewise.
        opset: of the model.
    """

    def __init__(self, first: Shapes, second: Shapes, opset: int = 13) -> None:
        self._first, self._second, self.opset = first, second, opset

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Of the first assignment; None where it is not known at both."""
        if value is None:
            return None
        if value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        name = value.name or ""
        one, other = self._first.get(name), self._second.get(name)
        return one if one is not None and other is not None and len(one) == len(other) else None

    def fixed(self, value: ir.Value, axis: int) -> bool:
        """Whether the size of an axis is the same for all inputs."""
        if value.const_value is not None:
            return True
        name = value.name or ""
        return self._first[name][axis] == self._second[name][axis]


@dataclass
class Site:
    """A node of which outputs are wanted in parts.

    Attributes:
        node: it.
        facts: of the model.
        ranks: how many.
        wanted: the layout of each output; None where any will do.
        units: added to by rules where parts cut what belongs together: elements that do, and of
            how many.
        gives: the layout of each output, where a rule says more than what was wanted.
    """

    node: ir.Node
    facts: Facts
    ranks: int
    wanted: Sequence[Layout | None]
    units: set[tuple[int, int]] = field(default_factory=set)
    gives: dict[int, Layout] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """Of the only output that is wanted, or the first."""
        return next(item for item in self.wanted if item is not None)

    @property
    def result(self) -> ir.Value:
        """The output that `layout` is of."""
        pairs = zip(self.node.outputs, self.wanted, strict=True)
        return next(value for value, item in pairs if item is not None)

    def shape(self, place: int) -> Shape | None:
        """Of an input."""
        return self.facts.shape(given(self.node, place))

    def constant(self, place: int) -> Array | None:
        """The elements of a constant input."""
        return constant(given(self.node, place))

    def whole(self) -> list[Layout]:
        """That every input is wanted whole, to be changed."""
        return [Layout() for _ in self.node.inputs]


def constant(value: ir.Value | None) -> Array | None:
    """The elements of a small constant; None for anything else."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size > 1 << 16 or tensor.dtype is ir.DataType.STRING:
        return None
    return np.asarray(tensor.numpy())


def integers(value: ir.Value | None) -> list[int] | None:
    """The elements of a small constant vector of numbers of elements."""
    found = constant(value)
    if found is None or found.dtype.kind not in "iu":
        return None
    return [int(item) for item in found.reshape(-1)]
