"""Activations in uint8: with one range for the tensor, found or fixed, or one for each token.

    tensor:  DynamicQuantizeLinear(x)
    static:  QuantizeLinear(x, scale, zero), with the scale DequantizeLinear(1, scale)
    token:   QuantizeLinear(x * (127 / m), 1, 128),  m = max(|x|) along the last axis

A range that is fixed beforehand saves the pass over the activation that finds it. Its scale goes
through a node that ONNX Runtime does not fold: of two constant scales it would make one, and then
not find the pattern that it fuses.

A token's own range costs a few passes over the activation, and keeps apart what a tensor's range
throws together: tokens whose values are ten times those of the others. Where nothing is below a
bound -c (results of GELU, for one) all 255 steps are above it: x + c is quantized, and what that
adds to the product is a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.activation.bounds import least
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.int8.ranges import TINY, Range
from burnish.passes.compress.splice import before

MIDDLE, TOP = 128, 255
"""Zero of values of both signs, and the largest step."""


@dataclass(frozen=True)
class Input:
    """An activation that approximates `(values - zero) * scale * unit - offset`.

    Attributes:
        values: uint8, of the activation's shape.
        zero: uint8 scalar.
        scale: float32: a scalar, or one for each token [..., 1] where `by_token`.
        unit: a factor of the scale that is known beforehand.
        offset: what was added before, 0 or more.
    """

    values: ir.Value
    zero: ir.Value
    scale: ir.Value
    by_token: bool = False
    unit: float = 1.0
    offset: float = 0.0


@dataclass
class Inputs:
    """Quantizes activations of one model; each once in either way.

    Attributes:
        model: changed in place.
    """

    model: ir.Model
    _made: dict[tuple[int, int, bool, Range | None], Input] = field(default_factory=dict)
    _pairs: dict[tuple[int, int, Range], ir.Value] = field(default_factory=dict)
    _constants: dict[tuple[str, float], ir.Value] = field(default_factory=dict)

    def get(
        self, activation: ir.Value, anchor: ir.Node, *, by_token: bool, fixed: Range | None = None
    ) -> Input:
        """The activation in uint8, computed before the anchor where it is not yet.

        Its range is that of each token, or the fixed one, or else what it is in each run.
        """
        key = (id(activation), id(anchor.graph), by_token, fixed)
        if key not in self._made:
            if fixed is not None:
                self._made[key] = self._by_range(activation, anchor, fixed)
            elif by_token:
                self._made[key] = self._by_token(activation, anchor)
            else:
                self._made[key] = self._by_tensor(activation, anchor)
        return self._made[key]

    def pair(self, activation: ir.Value, anchor: ir.Node, fixed: Range) -> ir.Value:
        """The activation after a round trip through the integers of the range, likewise once."""
        key = (id(activation), id(anchor.graph), fixed)
        if key not in self._pairs:
            values, scale, origin = self._quantized(activation, anchor, fixed)
            self._pairs[key] = before(anchor, "DequantizeLinear", [values, scale, origin])
        return self._pairs[key]

    def _by_range(self, activation: ir.Value, anchor: ir.Node, fixed: Range) -> Input:
        values, scale, origin = self._quantized(activation, anchor, fixed)
        step = self._constant("step", np.uint8(1))
        return Input(values, origin, before(anchor, "DequantizeLinear", [step, scale]))

    def _quantized(
        self, activation: ir.Value, anchor: ir.Node, fixed: Range
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The integers, and the constant scale and zero."""
        scale, origin = self._number("range", fixed.scale), self._constant("zero", fixed.origin)
        return before(anchor, "QuantizeLinear", [activation, scale, origin]), scale, origin

    def _by_tensor(self, activation: ir.Value, anchor: ir.Node) -> Input:
        node = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3)
        assert isinstance(anchor.graph, ir.Graph)
        anchor.graph.insert_before(anchor, node)
        values, scale, zero = node.outputs
        return Input(values, zero, scale)

    def _by_token(self, activation: ir.Value, anchor: ir.Node) -> Input:
        bound = least(activation)
        value, offset = activation, 0.0
        if bound is None:
            zero, steps = MIDDLE, TOP - MIDDLE
            size = before(anchor, "Abs", [value])
        else:
            zero, steps, offset = 0, TOP, -bound
            if offset:
                value = before(anchor, "Add", [value, self._number("offset", offset)])
            size = value
        largest = before(anchor, "Max", [self._largest(anchor, size), self._number("tiny", TINY)])
        factor = before(anchor, "Div", [self._number("steps", steps), largest])
        stretched = before(anchor, "Mul", [value, factor])
        origin = self._constant("zero", np.uint8(zero))
        rounded = before(anchor, "QuantizeLinear", [stretched, self._number("one", 1.0), origin])
        return Input(rounded, origin, largest, True, 1.0 / steps, offset)

    def _largest(self, anchor: ir.Node, value: ir.Value) -> ir.Value:
        """The largest element of each token."""
        if self.model.opset_imports[""] >= 18:
            axes = self._constant("last_axis", np.array([-1]))
            return before(anchor, "ReduceMax", [value, axes], keepdims=1)
        return before(anchor, "ReduceMax", [value], keepdims=1, axes=(-1,))

    def _number(self, name: str, number: float) -> ir.Value:
        return self._constant(name, np.float32(number))

    def _constant(self, name: str, array: np.generic | np.ndarray) -> ir.Value:
        key = (name, float(np.asarray(array).reshape(-1)[0]))
        if key not in self._constants:
            tensor = ir.Tensor(np.asarray(array))
            self._constants[key] = add_initializer(self.model.graph, name, tensor)
        return self._constants[key]
