"""Products and lookups on weights in blocks, in ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, shape_of
from burnish.optimizer.contract import Array
from burnish.optimizer.forms import FUSED
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.blockwise.blocks import Layout, Matrix, Quantized, quantize
from burnish.passes.compress.error_feedback import Feedback, Grid, rounded
from burnish.passes.compress.splice import before, replace

ROUND_INPUTS = 4
"""`accuracy_level` with which activations are rounded to int8 inside of the kernel."""


@dataclass
class Rewriter:
    """Rewrites places of one model; a weight that several share is stored once.

    Attributes:
        model: changed in place.
        layout_of: how the weight of the place that gives a value is stored.
        memo: see `contract.Context`.
        fed_back: products whose weight was rounded by error feedback.
    """

    model: ir.Model
    layout_of: Callable[[ir.Value], Layout]
    memo: dict[Hashable, Any]
    fed_back: int = 0

    def __post_init__(self) -> None:
        self._stored: dict[tuple[ir.Value, bool, Layout], tuple[ir.Value, ...]] = {}
        self._tables: dict[tuple[ir.Value, Layout], tuple[ir.Value, ...]] = {}

    def lookup(self, node: ir.Node) -> None:
        """Read the table of a `Gather` from blocks."""
        source, indices = node.inputs
        assert source is not None
        layout = self.layout_of(node.outputs[0])
        shared = [key for key in self._stored if key[:2] == (source, True)]
        if shared:
            # The product needs its blocks apart, and a constant; ONNX Runtime reshapes at load.
            layout = shared[0][2]
            codes, *others = self._stored[shared[0]]
            codes = self._reshaped(node, codes, np.array([shape_of(source)[0], -1]))
        else:
            codes, *others = self._table(source, layout)
        result = before(
            node,
            "GatherBlockQuantized",
            [codes, indices, *others],
            FUSED,
            bits=layout.bits,
            block_size=layout.size,
            gather_axis=0,
            quantize_axis=1,
        )
        replace((node,), node.outputs[0], result)

    def product(self, member: Product, feedback: Feedback | None = None) -> None:
        """Multiply with a weight in blocks, rounded by feedback of the activation or else not."""
        anchor, layout = member.nodes[0], self.layout_of(member.output)
        weight = self._weight(member.weight, member.transposed, layout, feedback)
        result = before(
            anchor,
            "MatMulNBits",
            [anchor.inputs[0], *weight],
            FUSED,
            K=member.k,
            N=member.n,
            bits=layout.bits,
            block_size=layout.size,
            accuracy_level=ROUND_INPUTS,
        )
        if member.alpha != 1.0:
            result = before(anchor, "Mul", [result, self._number(member, member.alpha)])
        if member.bias is not None and member.beta != 0.0:
            bias: ir.Value = member.bias
            if member.beta != 1.0:
                bias = before(anchor, "Mul", [bias, self._number(member, member.beta)])
            result = before(anchor, "Add", [result, bias])
        replace(member.nodes, member.output, result)

    def _weight(
        self, source: ir.Value, transposed: bool, layout: Layout, feedback: Feedback | None
    ) -> tuple[ir.Value, ...]:
        """Codes, scales and zeros of a weight."""
        key = (source, transposed, layout)
        if key not in self._stored:
            made = self._quantized(source, transposed, layout, feedback)
            self._stored[key] = self._add(source, made, made.codes)
        return self._stored[key]

    def _table(self, source: ir.Value, layout: Layout) -> tuple[ir.Value, ...]:
        """Codes [rows, bytes], scales and zeros of a table."""
        key = (source, layout)
        if key not in self._tables:
            made = self._quantized(source, True, layout, None)
            flat = (shape_of(source)[0], -1)
            width = int(np.prod(made.codes.shape.numpy()[1:]))
            codes = ir.LazyTensor(
                lambda: ir.Tensor(made.codes.numpy().reshape(flat)),
                dtype=ir.DataType.UINT8,
                shape=ir.Shape((flat[0], width)),
                cache=False,
            )
            self._tables[key] = self._add(source, made, codes)
        return self._tables[key]

    def _add(
        self, source: ir.Value, made: Quantized, codes: ir.TensorProtocol
    ) -> tuple[ir.Value, ...]:
        self.model.graph.opset_imports.setdefault(FUSED, 1)
        home, name = source.graph, source.name
        assert isinstance(home, ir.Graph)
        parts = {"blocks": codes, "scales": ir.Tensor(made.scales)}
        if made.zeros is not None:
            parts["zeros"] = ir.Tensor(made.zeros)
        return tuple(add_initializer(home, f"{name}_{key}", part) for key, part in parts.items())

    def _quantized(
        self, source: ir.Value, transposed: bool, layout: Layout, feedback: Feedback | None
    ) -> Quantized:
        assert source.const_value is not None
        if feedback is None:
            return quantize(Matrix(source.const_value, transposed), layout)
        self.fed_back += 1
        spread = None if feedback.by is None else feedback.by.tobytes()
        key = ("blocks", id(source.const_value), transposed, layout, spread)
        if key not in self.memo:

            def round_(columns: Array, grid: Grid) -> Array:
                return rounded(columns, feedback, grid).astype(np.uint8)

            matrix = Matrix(source.const_value, transposed, feedback.by)
            # The tensor stays alive with what was made of it, so that no other has its id.
            self.memo[key] = source.const_value, quantize(matrix, layout, round_)
        made: Quantized = self.memo[key][1]
        return made

    def _reshaped(self, anchor: ir.Node, value: ir.Value, sizes: Array) -> ir.Value:
        shape = add_initializer(self.model.graph, "rows_of_blocks", ir.Tensor(sizes))
        return before(anchor, "Reshape", [value, shape])

    def _number(self, member: Product, number: float) -> ir.Value:
        home = member.weight.graph
        assert isinstance(home, ir.Graph)
        name = f"{member.weight.name}_factor"
        return add_initializer(home, name, ir.tensor(np.float32(number)))
