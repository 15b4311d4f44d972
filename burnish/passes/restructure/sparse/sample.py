"""A product with a structured weight as a small model, whole or in another form, for timing."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer import samples
from burnish.optimizer.computed import Part
from burnish.optimizer.pruning import take_over
from burnish.passes.restructure.sparse.forms import Form, Place

OPSET = 17
"""Operator set of the samples; a product is the same in all."""


@dataclass(frozen=True)
class Sample:
    """A product of an activation [*axes, k] with a weight [k, n]."""

    axes: tuple[int, ...]
    k: int
    n: int

    @property
    def key(self) -> str:
        """What identifies it in a record of choices."""
        return f"structured rows={'x'.join(map(str, self._cut))} k={self.k} n={self.n}"

    @property
    def _cut(self) -> tuple[int, ...]:
        """The axes before the last, cut where the work would be too much."""
        most = max(1, samples.LARGEST_WORK // (self.k * self.n))
        return tuple(int(size) for size in samples.shortened(self.axes, most))

    def build(self, form: Form | None) -> onnx.ModelProto:
        """The model; its weight is of normal random numbers, none of them zero."""
        sample = samples.Sample(OPSET)
        left = sample.port("x", (*self._cut, self.k))
        right = sample.weight("w", self.k, self.n)
        product = sample.node("MatMul", left, right)
        result = sample.node("Relu", product)
        if form is not None:
            node, tensor = product.producer(), right.const_value
            assert node is not None
            place = Place(node, left, len(self.axes) + 1, Part(tensor, (self.k, self.n)), "w")
            take_over(product, form.write(place))
        return ir.to_proto(sample.model(result))


def sparse_layers(rows: int, sizes: tuple[int, int, int], gates: int) -> onnx.ModelProto:
    """Two layers [rows, k] -> hidden -> n with a ReLU between, or a gate; `sizes` k, hidden, n."""
    k, hidden, n = sizes
    sample = samples.Sample(OPSET)
    source = sample.port("x", (rows, k))
    parts = [
        sample.node("MatMul", source, sample.weight(f"up{index}", k, hidden))
        for index in range(gates)
    ]
    value = sample.node("Relu", parts[0])
    for part in parts[1:]:
        value = sample.node("Mul", value, part)
    result = sample.node("MatMul", value, sample.weight("down", hidden, n))
    return ir.to_proto(sample.model(result))
