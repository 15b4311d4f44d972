"""A site as a small model of the same sizes, with all or some of its units, for timing."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.channels.sites import CHANNELS, HEADS
from burnish.optimizer.forms import FUSED
from burnish.optimizer.samples import Sample
from burnish.passes.compress.pruning.levels import STEP

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


def layers(shape: Shape, width: int) -> onnx.ModelProto:
    """The layers before and behind with so many units between them."""
    sample = Sample(OPSET)
    axes = (shape.batch, shape.rows // shape.batch, shape.k)
    value = _Layers(sample, shape.biased, sample.port("x", axes)).between(shape, width)
    product = sample.node("MatMul", value, sample.weight("down", width * shape.size, shape.n))
    return ir.to_proto(sample.model(sample.node("Add", product, sample.weight("bias", shape.n))))


class _Layers:
    """What lies between one input and the layer behind."""

    def __init__(self, sample: Sample, biased: bool, source: ir.Value) -> None:
        self._sample, self._biased, self._source, self._count = sample, biased, source, 0

    def between(self, shape: Shape, width: int) -> ir.Value:
        """The value that the layer behind reads."""
        sample, columns = self._sample, width * shape.size
        if shape.kind == HEADS:
            parts = [self._up(columns) for _ in range(3)]
            return sample.node("MultiHeadAttention", *parts, domain=FUSED, num_heads=width)
        value = self._up(columns)
        if shape.layers > 1:
            return sample.node("Mul", sample.node("Sigmoid", value), self._up(columns))
        return sample.node("Gelu", value, domain=FUSED)

    def _up(self, columns: int) -> ir.Value:
        sample, name = self._sample, f"up{self._count}"
        self._count += 1
        k = self._source.shape[-1] if self._source.shape is not None else 0
        value = sample.node("MatMul", self._source, sample.weight(name, int(str(k)), columns))
        if not self._biased:
            return value
        return sample.node("Add", value, sample.weight(f"{name}_bias", columns))
