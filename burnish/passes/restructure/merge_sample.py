"""Products of one value as a small model of the same sizes, apart or merged, for timing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

LARGEST = 1 << 24
"""Elements of the largest weight of a sample; wider ones are cut to it."""

LARGEST_WORK = 1 << 31
"""Multiplications of a sample; longer activations are cut to it, as rows cost alike."""


@dataclass(frozen=True)
class Sample:
    """Products of one activation.

    Attributes:
        rows, k: of the activation.
        widths: output channels of each product.
        biased: whether each has a bias.
        dtype: of the weights.
    """

    rows: int
    k: int
    widths: tuple[int, ...]
    biased: tuple[bool, ...]
    dtype: ir.DataType

    @property
    def key(self) -> str:
        widths = "+".join(
            f"{width}{'b' if bias else ''}"
            for width, bias in zip(self.widths, self.biased, strict=True)
        )
        return f"projections {self.dtype.name.lower()} rows={self.rows} k={self.k} n={widths}"

    def builder(self, form: str) -> Callable[[], onnx.ModelProto]:
        """What builds the model in the form `separate` or `merged`."""
        return functools.partial(self.build, form == "merged")

    def build(self, merged: bool) -> onnx.ModelProto:
        """The model, with normal random weights (never zeros) and float32 ports."""
        total = sum(self.widths)
        share = min(1.0, LARGEST / (self.k * total))
        widths = [max(1, int(width * share)) for width in self.widths]
        rows = max(1, min(self.rows, LARGEST_WORK // (self.k * sum(widths))))
        graph = _Graph(self.k, self.dtype)
        if merged:
            whole = graph.linear("whole", sum(widths), any(self.biased))
            graph.weights.append(numpy_helper.from_array(np.array(widths, np.int64), "sizes"))
            parts = [f"part{index}" for index in range(len(widths))]
            graph.nodes.append(helper.make_node("Split", [whole, "sizes"], parts, axis=-1))
        else:
            parts = [
                graph.linear(f"part{index}", width, bias)
                for index, (width, bias) in enumerate(zip(widths, self.biased, strict=True))
            ]
        return graph.message(rows, parts, widths)


class _Graph:
    """Collects the nodes and weights of a sample."""

    def __init__(self, k: int, dtype: ir.DataType) -> None:
        self.k, self.dtype = k, dtype
        self.nodes: list[onnx.NodeProto] = []
        # Ports of short types are no business of what feeds and times the sample.
        self.x = self.cast("input", "x", dtype)
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def linear(self, name: str, width: int, bias: bool) -> str:
        self._normal(f"{name}.weight", self.k, width)
        product = f"{name}.product" if bias else name
        self.nodes.append(helper.make_node("MatMul", [self.x, f"{name}.weight"], [product]))
        if bias:
            self._normal(f"{name}.bias", width)
            self.nodes.append(helper.make_node("Add", [product, f"{name}.bias"], [name]))
        return name

    def cast(self, source: str, name: str, dtype: ir.DataType) -> str:
        """A value in another type; the value itself where all are float32."""
        if self.dtype is ir.DataType.FLOAT:
            return source
        self.nodes.append(helper.make_node("Cast", [source], [name], to=dtype.value))
        return name

    def _normal(self, name: str, *shape: int) -> None:
        array = self._random.standard_normal(shape, np.float32).astype(self.dtype.numpy())
        self.weights.append(numpy_helper.from_array(array, name))

    def message(self, rows: int, parts: list[str], widths: list[int]) -> onnx.ModelProto:
        """The model; it gives one row of each part.

        What the graph gives as a whole gets memory of its own at each run, and no bias is added to
        it in place, as is done within a model: both would be timed as part of the products.
        """
        bounds = (np.array([number], np.int64) for number in (0, 1))
        self.weights += map(numpy_helper.from_array, bounds, ("first", "one"))
        outputs = []
        for name in parts:
            row = f"{name}.row"
            self.nodes.append(helper.make_node("Slice", [name, "first", "one", "one"], [row]))
            outputs.append(self.cast(row, f"{name}.output", ir.DataType.FLOAT))
        ports = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, rows, self.k])]
        ports += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, width])
            for name, width in zip(outputs, widths, strict=True)
        ]
        graph = helper.make_graph(self.nodes, "sample", ports[:1], ports[1:], self.weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)
