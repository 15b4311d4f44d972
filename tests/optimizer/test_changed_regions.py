"""What counts as a change between two graphs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.regions import changed_region, identical

LOOP = """
<ir_version: 10, opset_import: ["" : 18]>
repeated (float[n] x, int64 count) => (float[n] y)
<bool always = {1}>
{
  y = Loop (count, always, x) <body = turn (int64 i, bool going, float[n] before)
    => (bool on, float[n] after) {
    on = Identity (going)
    halved = Add (before, before)
    after = Relu (halved)
  }>
}
"""


def inner(model: ir.Model, name: str) -> ir.Value:
    """A value of the loop's body."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return next(value for node in nodes for value in node.outputs if value.name == name)


def test_what_a_subgraph_says_of_types_inside_is_no_change() -> None:
    before, after = parse(LOOP), parse(LOOP)
    value = inner(after, "halved")
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["n"])
    assert identical(before, after)
    assert changed_region(before, after).outputs == ()


@pytest.mark.parametrize("new", ["Sigmoid (halved)", "Relu (x)"])
def test_what_a_subgraph_computes_is_a_change(new: str) -> None:
    after = parse(LOOP.replace("Relu (halved)", new))
    assert not identical(parse(LOOP), after)
    assert changed_region(parse(LOOP), after).outputs == ("y",)
