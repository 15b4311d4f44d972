"""Regions as small models of the same sizes, for timing."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.shapes.concrete import Axes
from burnish.optimizer.contract import Array, Context
from burnish.optimizer.forms import FUSED
from burnish.optimizer.model import add_initializer

LARGEST = 1 << 24
"""Elements of the largest weight of a sample; wider ones are cut to it."""

LARGEST_WORK = 1 << 31
"""Multiplications of a sample; longer activations are cut to it, as rows cost alike."""


def rows_of(activation: ir.Value, context: Context) -> int:
    """Rows of the left operand of a product, at the context's sizes; tokens where not known."""
    shape = context.shapes.get(activation.name or "")
    tokens = context.sizes.get("batch", 8) * context.sizes.get("sequence", 128)
    return math.prod(shape[:-1]) if shape else tokens


class Sample:
    """A small model in the making; all of its values are float32, and normal random.

    Args:
        opset: the operator set of the model that it stands for.
    """

    def __init__(self, opset: int) -> None:
        imports = {"": opset, FUSED: 1}
        self._graph = ir.Graph([], [], nodes=[], opset_imports=imports, name="sample")
        self._random = np.random.default_rng(0)

    def port(self, name: str, axes: Axes) -> ir.Value:
        """An input; free axes are fed at the size that they are called by."""
        value = ir.val(name, ir.DataType.FLOAT, axes)
        self._graph.inputs.append(value)
        return value

    def weight(self, name: str, *shape: int) -> ir.Value:
        """A constant, never of zeros."""
        array = self._random.standard_normal(shape, np.float32)
        return add_initializer(self._graph, name, ir.tensor(array))

    def number(self, name: str, number: float) -> ir.Value:
        """A constant scalar."""
        return add_initializer(self._graph, name, ir.tensor(np.float32(number)))

    def constant(self, name: str, array: Array | np.generic) -> ir.Value:
        """A constant that matters by its value."""
        return add_initializer(self._graph, name, ir.tensor(np.asarray(array)))

    def node(
        self,
        operator: str,
        *inputs: ir.Value | None,
        domain: str = "",
        **attributes: int | float | str | list[int],
    ) -> ir.Value:
        """The output of a new node."""
        node = ir.node(operator, inputs, attributes, domain=domain)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].name = f"value{len(self._graph)}"
        self._graph.append(node)
        return node.outputs[0]

    def model(self, *outputs: ir.Value) -> ir.Model:
        """The model, in a version of the format that every operator set here can have."""
        self._graph.outputs.extend(outputs)
        return ir.Model(self._graph, ir_version=10)


def shortened(axes: Axes, most: int) -> Axes:
    """Sizes of at most `most` elements: the first axes are cut, as much as it takes."""
    sizes = [int(size) for size in axes]
    for index in range(len(sizes)):
        rest = math.prod(sizes[index + 1 :])
        sizes[index] = max(1, min(sizes[index], most // max(rest, 1)))
        if math.prod(sizes) <= most:
            break
    pairs = zip(sizes, axes, strict=True)
    return tuple(size if isinstance(old, int) else str(size) for size, old in pairs)
