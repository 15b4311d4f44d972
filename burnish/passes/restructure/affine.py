"""Scales and shifts by constants, as the graph writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import shape_of
from burnish.optimizer.analysis.sizes import ONE, Shape, Size
from burnish.optimizer.contract import Array

LARGEST = 1 << 16
"""Elements of the largest constant that is looked at."""

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
"""Operators with the constant that leaves their first operand as it is."""


@dataclass(frozen=True)
class Affine:
    """`output = source (operator) constant`, with a small constant.

    Attributes:
        node: an `Add`, `Sub`, `Mul` or `Div`.
        source: the operand that is not constant; never what a `Sub` takes away or `Div` divides by.
        constant: initializer.
    """

    node: ir.Node
    source: ir.Value
    constant: ir.Value

    @classmethod
    def of(cls, node: ir.Node) -> Affine | None:
        """The scale or shift that a node is; None where it is neither."""
        if node.op_type not in NEUTRAL or node.domain != "":
            return None
        places = (1,) if node.op_type in ("Sub", "Div") else (1, 0)
        for place in places:
            constant, source = node.inputs[place], node.inputs[1 - place]
            if constant is None or source is None or source.const_value is not None:
                continue
            if constant.const_value is None or constant.producer() is not None:
                continue
            if constant.const_value.size <= LARGEST:
                return cls(node, source, constant)
        return None

    @property
    def output(self) -> ir.Value:
        """What the node gives."""
        return self.node.outputs[0]

    @property
    def scales(self) -> bool:
        """Whether it multiplies or divides."""
        return self.node.op_type in ("Mul", "Div")

    @property
    def floating(self) -> bool:
        """Whether it computes in floating point."""
        tensor = self.constant.const_value
        return tensor is not None and tensor.dtype.is_floating_point()

    def array(self) -> Array:
        """The constant's elements."""
        assert self.constant.const_value is not None
        return self.constant.const_value.numpy()

    def factor(self) -> Array:
        """What the source is multiplied by, in float32; of a scale."""
        with np.errstate(all="ignore"):
            array = self.array().astype(np.float32)
            return np.float32(1.0) / array if self.node.op_type == "Div" else array

    def keeps_shape(self, known: Shape | None) -> bool:
        """Whether the output certainly has the shape of the source, of known shape."""
        shape = shape_of(self.constant)
        width = width_of(self.source)
        if shape == () or (len(shape) == 1 and width is not None and shape[0] in (1, width)):
            return True
        if known is None or len(known) < len(shape):
            return False
        tail = known[len(known) - len(shape) :]
        return all(Size.of(mine) in (ONE, its) for mine, its in zip(shape, tail, strict=True))

    def neutral(self) -> bool:
        """Whether the constant leaves the source as it is."""
        return bool((self.array() == NEUTRAL[self.node.op_type]).all())

    def uniform(self) -> bool:
        """Whether the constant is one number."""
        return math.prod(shape_of(self.constant)) == 1


def chained(first: Affine, second: Affine) -> Array | None:
    """The constant of both in one, `Add`ed or `Mul`tiplied; None where it would not do.

    It is no larger than the first one, unless that is one number: a bias of a product which became
    one of each token would be the product's no longer.
    """
    with np.errstate(all="ignore"):
        one, two = (item.array().astype(np.float32) for item in (first, second))
        if first.scales:
            whole = first.factor()
            joined = whole * two if second.node.op_type == "Mul" else whole / two
        else:
            joined = (one if first.node.op_type == "Add" else -one) + (
                two if second.node.op_type == "Add" else -two
            )
        kind = first.array().dtype
        joined = joined.astype(kind)
    if not np.isfinite(joined.astype(np.float32)).all():
        return None
    return joined if first.uniform() or joined.size == one.size else None


def width_of(value: ir.Value) -> int | None:
    """The length of the last axis of what a matrix product with a constant gives."""
    node = value.producer()
    if node is None or node.op_type not in ("MatMul", "Gemm") or node.domain != "":
        return None
    right, across = (
        node.inputs[1],
        node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1,
    )
    turn = right.producer() if right is not None else None
    if turn is not None and turn.op_type == "Transpose":
        right, across = turn.inputs[0], not across
    if right is None or right.const_value is None or len(shape_of(right)) != 2:
        return None
    return shape_of(right)[0 if across else 1]
