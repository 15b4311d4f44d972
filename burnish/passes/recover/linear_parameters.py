"""Weights and biases of linear layers in the normal form: a matrix [k, n] and a vector [n]."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.linear import Layer
from burnish.optimizer.analysis.products import shape_of
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.model import add_initializer


@dataclass
class Parameters:
    """Makes them; those that several layers share are made once."""

    sizes: Sizes
    _made: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def weight(self, layer: Layer) -> ir.Value:
        """The matrix [k, n]; computed when it is saved where it is not stored so."""
        weight, shape = layer.weight, shape_of(layer.weight)
        sizes = [shape[axis] for axis in layer.order]
        matrix = math.prod(sizes[: layer.inner]), math.prod(sizes[layer.inner :])
        stored = layer.order == tuple(range(len(shape)))
        if stored and shape == matrix and layer.scale == 1.0:
            return weight
        if layer.shared and layer.scale == 1.0:
            return self._transposed(layer)
        key = (weight, layer.order, matrix, layer.scale)
        if key not in self._made:
            tensor = _arranged(weight.const_value, layer, matrix)
            self._made[key] = add_initializer(home(weight), f"{weight.name}_matrix", tensor)
        return self._made[key]

    def _transposed(self, layer: Layer) -> ir.Value:
        """The transpose of a weight that others read as it is."""
        given = layer.node.inputs[1]
        if given is not None and given is not layer.weight:
            return given
        node = ir.node("Transpose", [layer.weight], {"perm": (1, 0)})
        value, shape = node.outputs[0], shape_of(layer.weight)
        value.type, value.shape = layer.weight.type, ir.Shape(shape[::-1])
        graph = layer.node.graph
        assert isinstance(graph, ir.Graph)
        graph.insert_before(layer.node, node)
        self.sizes.visit(node)
        return value

    def bias(self, bias: ir.Value) -> ir.Value:
        """The bias as a vector."""
        if len(shape_of(bias)) == 1:
            return bias
        key = (bias,)
        if key not in self._made:
            assert bias.const_value is not None
            tensor = ir.Tensor(bias.const_value.numpy().reshape(-1).copy())
            self._made[key] = add_initializer(home(bias), f"{bias.name}_vector", tensor)
        return self._made[key]


def _arranged(
    tensor: ir.TensorProtocol | None, layer: Layer, matrix: tuple[int, int]
) -> ir.LazyTensor:
    """A weight with its axes in order, computed each time that its bytes are asked for."""
    assert tensor is not None
    source, order, scale = tensor, layer.order, layer.scale

    def compute() -> ir.TensorProtocol:
        array = source.numpy().transpose(order).reshape(matrix)
        scaled = array if scale == 1.0 else (array * array.dtype.type(scale))
        return ir.Tensor(np.ascontiguousarray(scaled), dtype=source.dtype)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(matrix), cache=False)


def home(value: ir.Value) -> ir.Graph:
    """The graph that holds an initializer."""
    assert isinstance(value.graph, ir.Graph)
    return value.graph
