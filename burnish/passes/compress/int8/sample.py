"""A group of products as a small model of the same sizes, in float or in int8, for timing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products
from burnish.passes.compress.int8.ranges import Range
from burnish.passes.compress.int8.rewrite import Rewriter
from burnish.passes.compress.splice import drop_unused

PAIRS = "int8-pairs"
"""Form of operands that come from int8; see `Rewriter.pair`."""


def is_by_token(form: str) -> bool:
    """Whether a form (see `Sample.build`) gives each token a range of its own."""
    return "token" in form


def is_static(form: str) -> bool:
    """Whether the ranges of a form are fixed beforehand."""
    return "static" in form


@dataclass(frozen=True)
class Sample:
    """Products of one activation.

    Attributes:
        rows, k: of the activation.
        widths: output channels of each product.
        biased: whether each has a bias.
        share: of the widths that the sample has, where all of them would be too large.
    """

    rows: int
    k: int
    widths: tuple[int, ...]
    biased: tuple[bool, ...]
    share: float

    @property
    def key(self) -> str:
        widths = "+".join(
            f"{width}{'b' if bias else ''}"
            for width, bias in zip(self.widths, self.biased, strict=True)
        )
        return f"linear rows={self.rows} k={self.k} n={widths}"

    def build(self, form: str) -> onnx.ModelProto:
        """The model with normal random weights (never zeros).

        Forms are `fp32`, `PAIRS` and `int8[-token | -static][-merged]`.
        """
        generator = np.random.default_rng(0)
        activation = ir.val("x", ir.DataType.FLOAT, [self.rows, self.k])
        graph = ir.Graph([activation], [], nodes=[], opset_imports={"": 17}, name="sample")
        for index, (width, bias) in enumerate(zip(self.widths, self.biased, strict=True)):
            width = max(1, int(width * self.share))
            matrix = generator.standard_normal((self.k, width), np.float32)
            output = self._append(graph, "MatMul", activation, f"w{index}", matrix)
            if bias:
                vector = generator.standard_normal(width, np.float32)
                output = self._append(graph, "Add", output, f"b{index}", vector)
            output.name, output.type = f"y{index}", ir.TensorType(ir.DataType.FLOAT)
            output.shape = ir.Shape([self.rows, width])
            graph.outputs.append(output)
        model = ir.Model(graph, ir_version=8)
        if form != "fp32":
            members, _ = find_products(model)
            self._rewrite(form, members, Rewriter(model))
            drop_unused(model)
        return ir.to_proto(model)

    @staticmethod
    def _rewrite(form: str, members: list[Product], rewriter: Rewriter) -> None:
        if form == PAIRS:
            for member in members:
                rewriter.pair(member, Range.covering(-4.0, 4.0, symmetric=True))
            return
        fixed = Range.covering(-4.0, 4.0) if is_static(form) else None
        merged, by_token = form.endswith("merged"), is_by_token(form)
        for part in [members] if merged else [[member] for member in members]:
            rewriter.product(part, by_token=by_token, fixed=fixed)

    @staticmethod
    def _append(
        graph: ir.Graph, operator: str, left: ir.Value, name: str, array: np.ndarray
    ) -> ir.Value:
        constant = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        constant.type, constant.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
        graph.register_initializer(constant)
        node = ir.node(operator, [left, constant])
        graph.append(node)
        return node.outputs[0]
