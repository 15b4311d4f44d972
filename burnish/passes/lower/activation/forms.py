"""Forms of an activation with its bias, each written over the place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import replace
from burnish.optimizer.analysis.products import shape_of
from burnish.optimizer.constants import Constants
from burnish.optimizer.forms import FUSED
from burnish.optimizer.model import add_initializer
from burnish.passes.lower.activation.places import Place

Write = Callable[[Place, Constants], None]


def apart(place: Place, constants: Constants) -> None:
    """The operators that it has, spelled so that ONNX Runtime does not fuse them.

    It fuses an `Add` with what follows, and looks at no `Sum`; of a quick GELU it knows the `Mul`
    before the sigmoid, and no `Div`.
    """
    if place.kind != "quick-gelu":
        assert place.adder is not None
        place.adder.op_type = "Sum"
        return
    assert place.scaling is not None
    divisor = constants.number(place.graph, "quick", 1.0 / place.factor, ir.DataType.FLOAT)
    replace(place.scaling.outputs[0], ir.node("Div", [place.source, divisor]))


def fused(place: Place, constants: Constants) -> None:
    """The operator of ONNX Runtime's that computes all of it, or all but the product."""
    result = place.node.outputs[0]
    if place.kind == "quick-gelu":
        alpha = {"alpha": place.factor}
        replace(result, ir.node("QuickGelu", [place.source], alpha, domain=FUSED))
        return
    inputs = [place.sum, place.bias] if place.adder is not None and place.is_alone else None
    operator = "BiasGelu" if place.kind == "gelu-erf" else "FastGelu"
    replace(result, ir.node(operator, inputs or [place.source], domain=FUSED))


def gemm(place: Place, constants: Constants) -> None:
    """The bias in the product, which is a `Gemm` of flat rows then.

    ONNX Runtime does the same where it knows all sizes when it loads the model.
    """
    product = place.product
    assert product is not None
    left, weight = product.inputs
    assert left is not None and weight is not None
    k, n = shape_of(weight)
    flat = ir.node("Reshape", [left, _integers(place.graph, [-1, k])])
    rows = ir.node("Gemm", [flat.outputs[0], weight, place.bias])
    shape = ir.node("Shape", [left], {"start": 0, "end": -1})
    last = _integers(place.graph, [n])
    target = ir.node("Concat", [shape.outputs[0], last], {"axis": 0})
    back = ir.node("Reshape", [rows.outputs[0], target.outputs[0]], {"allowzero": 1})
    for node in (flat, rows):
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    for node in (shape, target):
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    replace(place.source, flat, rows, shape, target, back)


def _integers(graph: ir.Graph, numbers: list[int]) -> ir.Value:
    return add_initializer(graph, "sizes", ir.tensor(np.array(numbers, np.int64)))
