"""A site as a small model of the same sizes, whole or in another form, for timing."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.channels.sites import CHANNELS, HEADS
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.forms import FUSED
from burnish.optimizer.samples import Sample
from burnish.passes.compress.int8.rewrite import Rewriter
from burnish.passes.compress.pruning.levels import STEP, Form
from burnish.passes.compress.splice import drop_unused

OPSET = 17
"""Operator set of the samples."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a site.

    Attributes:
        batch, rows: sequences, and rows of all of them.
        k, n: channels of the layers before and behind.
        units, size: see `Site`.
        layers: parts that the layers before give: two with a gate; queries, keys and values.
        groups: heads of keys.
    """

    kind: str
    batch: int
    rows: int
    k: int
    units: int
    size: int
    n: int
    layers: int
    groups: int
    biased: bool

    @property
    def key(self) -> str:
        """What identifies it in a record of choices."""
        return "-".join(str(item) for item in astuple(self))

    def rounded(self, share: float) -> int:
        """A width of about that share of the units."""
        step = STEP if self.kind == CHANNELS else max(1, self.units // self.groups)
        return max(1, round(self.units * share / step)) * step if step < self.units else 0


def layers(shape: Shape, form: Form, *, int8: bool = False) -> onnx.ModelProto:
    """The layers before and behind with so many units between them, or of a rank.

    With `int8` their products are those of dynamic int8.
    """
    sample = Sample(OPSET)
    axes = (shape.batch, shape.rows // shape.batch, shape.k)
    made = _Layers(sample, shape.biased, sample.port("x", axes), form.rank)
    size = form.sizes[1] if form.sizes is not None else shape.size
    value = made.product(made.between(shape, form), "down", form.width * size, shape.n)
    model = sample.model(sample.node("Add", value, sample.weight("bias", shape.n)))
    if int8:
        rewriter = Rewriter(model)
        for product in find_products(model)[0]:
            rewriter.product([product])
        drop_unused(model)
    return ir.to_proto(model)


class _Layers:
    """What lies between one input and the layer behind."""

    def __init__(self, sample: Sample, biased: bool, source: ir.Value, rank: int) -> None:
        self._sample, self._biased, self._source, self._rank = sample, biased, source, rank
        self._count = 0

    def between(self, shape: Shape, form: Form) -> ir.Value:
        """The value that the layer behind reads."""
        sample, width = self._sample, form.width
        keys, values = form.sizes or (shape.size, shape.size)
        if shape.kind == HEADS:
            parts = [self._up(shape.k, width * size) for size in (keys, keys, values)]
            return sample.node("MultiHeadAttention", *parts, domain=FUSED, num_heads=width)
        value = self._up(shape.k, width * shape.size)
        if shape.layers > 1:
            gate = sample.node("Sigmoid", value)
            return sample.node("Mul", gate, self._up(shape.k, width * shape.size))
        return sample.node("Gelu", value, domain=FUSED)

    def product(self, value: ir.Value, name: str, k: int, n: int) -> ir.Value:
        """A product with a weight, or with two of a rank."""
        sample = self._sample
        if not self._rank or self._rank * (k + n) >= k * n:
            return sample.node("MatMul", value, sample.weight(name, k, n))
        value = sample.node("MatMul", value, sample.weight(f"{name}_left", k, self._rank))
        return sample.node("MatMul", value, sample.weight(f"{name}_right", self._rank, n))

    def _up(self, k: int, columns: int) -> ir.Value:
        sample, name = self._sample, f"up{self._count}"
        self._count += 1
        value = self.product(self._source, name, k, columns)
        if not self._biased:
            return value
        return sample.node("Add", value, sample.weight(f"{name}_bias", columns))
