"""The forms that a product with a structured weight can have, each written in front of a node."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.computed import Part, lazy, selected
from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer
from burnish.passes.restructure.sparse.structure import TILE, Block, Kronecker

SCATTERED = "scattered"
"""What the key of a form says that takes channels one by one."""


@dataclass(frozen=True)
class Place:
    """Where a product is written.

    Attributes:
        anchor: nodes go in front of this one.
        activation: left operand [..., k].
        axes: number of its axes; 0 where that is not known.
        weight: [k, n], as it is stored.
        name: what the parts of the weight are named after.
    """

    anchor: ir.Node
    activation: ir.Value
    axes: int
    weight: Part
    name: str

    def node(self, operator: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        """The output of a new node."""
        made = ir.node(operator, inputs, attributes)  # type: ignore[arg-type]
        assert isinstance(self.anchor.graph, ir.Graph)
        self.anchor.graph.insert_before(self.anchor, made)
        return made.outputs[0]

    def stored(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """A new constant."""
        assert isinstance(self.anchor.graph, ir.Graph)
        return add_initializer(self.anchor.graph, f"{self.name}_{name}", tensor)

    def whole(self, name: str, numbers: Sequence[int] | Array) -> ir.Value:
        """A new constant of whole numbers."""
        return self.stored(name, ir.Tensor(np.array(numbers, np.int64)))

    def reshaped(self, value: ir.Value, *last: int) -> ir.Value:
        """A value whose last axis, or axes, become others."""
        return self.node("Reshape", value, self.whole("sizes", [0] * (self.axes - 1) + [*last]))

    def channels(self, value: ir.Value, indices: Array, width: int) -> ir.Value:
        """Some of the last axis, in the order of their indices."""
        first, count = int(indices[0]), len(indices)
        if (indices == np.arange(first, first + count)).all():
            if count == width:
                return value
            ends = (self.whole(name, [at]) for name, at in (("from", first), ("to", first + count)))
            return self.node("Slice", value, *ends, self.whole("axis", [-1]))
        size = _tile(indices) if self.axes and width % TILE == 0 else 1
        if size == 1:
            return self.node("Gather", value, self.whole("channels", indices), axis=-1)
        # Whole tiles are copied much faster than single channels.
        value = self.reshaped(value, width // size, size)
        value = self.node("Gather", value, self.whole("tiles", indices[::size] // size), axis=-2)
        return self.reshaped(value, count)

    def spread(self, value: ir.Value, columns: Array, width: int) -> ir.Value:
        """All columns of a result in their order, of which it has some; -1 is one of zeros."""
        real = np.flatnonzero(columns >= 0)
        order = np.full(width, -1)
        order[columns[real]] = real
        empty = np.flatnonzero(order < 0)
        have = len(columns)
        if len(real) < have:
            order[empty] = int(np.argmin(columns))
        elif len(empty):
            zeros = TILE if width % TILE == 0 and _tile(columns) == _tile(empty) == TILE else 1
            pads = [0] * (2 * self.axes - 1) + [zeros]
            value = self.node("Pad", value, self.whole("pads", pads))
            order[empty] = have + np.arange(len(empty)) % zeros
            have += zeros
        return self.channels(value, order, have)


class Form(abc.ABC):
    """A way to compute a product."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """In words, for the report."""

    @property
    @abc.abstractmethod
    def key(self) -> str:
        """What its time depends on besides the sizes of the product."""

    @property
    @abc.abstractmethod
    def work(self) -> int:
        """Multiplications for each row of the left operand."""

    @abc.abstractmethod
    def write(self, place: Place) -> ir.Value:
        """Write the product; its result [..., n], without a bias."""


@dataclass(frozen=True)
class Apart(Form):
    """A product for each block, side by side."""

    blocks: tuple[Block, ...]
    width: int

    @property
    def name(self) -> str:
        count = len(self.blocks)
        return f"{count} block{'s' * (count != 1)}"

    @property
    def key(self) -> str:
        order = "" if _in_order(self.blocks, self.width) else _order(self.blocks)
        return "+".join(_size(block) for block in self.blocks) + order

    @property
    def work(self) -> int:
        return sum(block.work for block in self.blocks)

    def write(self, place: Place) -> ir.Value:
        columns = [block.columns for block in self.blocks]
        if not place.axes and sum(map(len, columns)) < self.width:
            columns[0] = np.append(columns[0], -1)  # of zeros, where none can be put beside it
        parts = []
        for block, own in zip(self.blocks, columns, strict=True):
            left = place.channels(place.activation, block.rows, place.weight.result[0])
            weight = place.stored("block", selected(place.weight, block.rows, own))
            parts.append(place.node("MatMul", left, weight))
        whole = parts[0] if len(parts) == 1 else place.node("Concat", *parts, axis=-1)
        return place.spread(whole, np.concatenate(columns), self.width)


@dataclass(frozen=True)
class Batched(Form):
    """One product of many: the blocks have the same sizes, and the axes of the left operand known.

    Attributes:
        blocks: share neither rows nor columns.
    """

    blocks: tuple[Block, ...]
    width: int

    @property
    def name(self) -> str:
        return f"{len(self.blocks)} blocks in one product"

    @property
    def key(self) -> str:
        return f"batched {Apart(self.blocks, self.width).key}"

    @property
    def work(self) -> int:
        return sum(block.work for block in self.blocks)

    def write(self, place: Place) -> ir.Value:
        used = np.concatenate([block.rows for block in self.blocks])
        columns = np.stack([block.columns for block in self.blocks])
        count, height = len(self.blocks), len(self.blocks[0].rows)
        axes = place.axes
        left = place.channels(place.activation, used, place.weight.result[0])
        left = place.reshaped(left, count, height)
        # [..., rows, block, k] and back: the block goes before the rows.
        swapped = [*range(axes - 2), axes - 1, axes - 2, axes]
        left = place.node("Transpose", left, perm=swapped)
        result = place.node("MatMul", left, place.stored("blocks", self._stacked(place, columns)))
        result = place.node("Transpose", result, perm=swapped)
        result = place.reshaped(result, columns.size)
        return place.spread(result, columns.ravel(), self.width)

    def _stacked(self, place: Place, columns: Array) -> ir.LazyTensor:
        parts = [
            selected(place.weight, block.rows, own)
            for block, own in zip(self.blocks, columns, strict=True)
        ]
        shape = (len(parts), *parts[0].shape.numpy())
        return lazy(shape, parts[0].dtype, lambda: np.stack([part.numpy() for part in parts]))


@dataclass(frozen=True)
class TwoProducts(Form):
    """The two factors of a Kronecker product; the axes of the left operand are known.

    Attributes:
        transposed: whether transposes make products of all rows of both, else the left factor
            multiplies each row by itself.
    """

    factors: Kronecker
    transposed: bool

    @property
    def name(self) -> str:
        if self.factors.repeated:
            (c, d), count = self.factors.right.shape, len(self.factors.left)
            return f"one product of {c} x {d} for each of {count} parts"
        sizes = " and ".join(
            f"{len(item)} x {item.shape[1]}" for item in (self.factors.left, self.factors.right)
        )
        return f"two products of {sizes}{', transposed' * self.transposed}"

    @property
    def key(self) -> str:
        return self.name

    @property
    def work(self) -> int:
        return self.factors.work

    def write(self, place: Place) -> ir.Value:
        (a, b), (c, d) = self.factors.left.shape, self.factors.right.shape
        steps = [self._by_right, self._by_left][: 1 if self.factors.repeated else 2]
        value = place.reshaped(place.activation, a, c)
        for step in steps if self.factors.right_first else reversed(steps):
            value = step(place, value)
        return place.reshaped(value, b * d)

    def _by_right(self, place: Place, value: ir.Value) -> ir.Value:
        right = self.factors.right
        return place.node("MatMul", value, place.stored("right", ir.Tensor(right)))

    def _by_left(self, place: Place, value: ir.Value) -> ir.Value:
        left = self.factors.left
        if not self.transposed:
            turned = ir.Tensor(np.ascontiguousarray(left.T))
            return place.node("MatMul", place.stored("left", turned), value)
        axes = place.axes
        swapped = [*range(axes - 1), axes, axes - 1]
        value = place.node("Transpose", value, perm=swapped)
        value = place.node("MatMul", value, place.stored("left", ir.Tensor(left)))
        return place.node("Transpose", value, perm=swapped)


def _size(block: Block) -> str:
    return f"{len(block.rows)}x{len(block.columns)}"


def _in_order(blocks: Sequence[Block], width: int) -> bool:
    """Whether the blocks give all columns in their order, and read rows that lie together."""
    rows = all((np.diff(block.rows) == 1).all() for block in blocks)
    columns = np.concatenate([block.columns for block in blocks])
    return rows and np.array_equal(columns, np.arange(width))


def _order(blocks: Sequence[Block]) -> str:
    """How rows and columns are taken that do not lie together."""
    tiles = all(_tile(item) > 1 for block in blocks for item in (block.rows, block.columns))
    return " in tiles" if tiles else f" {SCATTERED}"


def _tile(indices: Array) -> int:
    """`TILE` where indices come in whole tiles, one after the other in each; else 1."""
    if len(indices) % TILE:
        return 1
    rows = indices.reshape(-1, TILE)
    whole = (rows[:, 0] % TILE == 0).all() and (np.diff(rows) == 1).all()
    return TILE if whole else 1
