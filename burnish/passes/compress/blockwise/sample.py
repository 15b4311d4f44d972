"""A product as a small model of the same sizes, in float or in blocks, for timing."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer import samples
from burnish.optimizer.analysis.products import find_products
from burnish.passes.compress.blockwise.blocks import Layout
from burnish.passes.compress.blockwise.rewrite import Rewriter
from burnish.passes.compress.splice import drop_unused

OPSET = 17
"""Operator set of the samples; a product is the same in all."""


@dataclass(frozen=True)
class Sample:
    """A product of an activation [rows, k] with a weight [k, n]."""

    rows: int
    k: int
    n: int
    layout: Layout

    @property
    def key(self) -> str:
        """What identifies it in a record of choices."""
        kind = "symmetric" if self.layout.symmetric else "asymmetric"
        return (
            f"product rows={self.rows} k={self.k} n={self.n} bits={self.layout.bits} "
            f"block={self.layout.size} {kind}"
        )

    def build(self, *, quantized: bool) -> onnx.ModelProto:
        """The model with normal random weights."""
        sample = samples.Sample(OPSET)
        left, right = sample.port("x", (self.rows, self.k)), sample.weight("w", self.k, self.n)
        product = sample.node("MatMul", left, right)
        product.shape = ir.Shape([self.rows, self.n])
        model = sample.model(product)
        if quantized:
            rewriter = Rewriter(model, lambda place: self.layout, {})
            rewriter.product(find_products(model)[0][0])
            drop_unused(model)
        return ir.to_proto(model)
