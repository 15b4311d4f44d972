"""Small models of regions: as free as what they stand for, and no larger than they may be."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, text
from burnish.optimizer.contract import Choice
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.optimizer.samples import Sample, shortened


@pytest.mark.parametrize(
    ("axes", "most", "expected"),
    [
        (("8", "128"), 2000, ("8", "128")),
        (("8", "128"), 500, ("3", "128")),
        ((8, 128), 64, (1, 64)),
        (("8", 4, "16"), 1, ("1", 1, "1")),
        ((), 5, ()),
    ],
)
def test_the_first_axes_are_cut(axes: Axes, most: int, expected: Axes) -> None:
    assert shortened(axes, most) == expected


def test_sizes_are_as_free_as_in_the_model() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch, 3, sequence] x) => (float[batch, 3, sequence] y)
        <float[2, 3] w = {1, 2, 3, 4, 5, 6}>
        { y = Relu (x) }
    """)
    sizes = Concrete(model, make_context())
    axes = sizes.axes(model.graph.inputs[0])
    assert axes == ("8", 3, "128")
    assert text(axes) == "~8x3x~128"
    assert sizes.axes(model.graph.initializers["w"]) == (2, 3)
    assert sizes.axes(None) is None
    assert sizes.axes(ir.val("unheard of")) is None


def test_a_sample_runs() -> None:
    sample = Sample(20)
    product = sample.node("MatMul", sample.port("x", ("2", 3)), sample.weight("w", 3, 4))
    model = sample.model(sample.node("Mul", product, sample.number("two", 2.0)))
    assert [len(item.dims) for item in ir.to_proto(model).graph.initializer] == [2, 0]
    [outputs] = run_model(model, [{"x": np.ones((5, 3), np.float32)}])
    weight = model.graph.initializers["w"].const_value
    assert weight is not None and np.abs(weight.numpy()).min() > 0
    expected = np.ones((5, 3)) @ weight.numpy() * 2
    np.testing.assert_allclose(next(iter(outputs.values())), expected, rtol=1e-5)


def test_what_was_chosen_is_counted() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[2] x) => (float[2] y) { y = Relu (x) }
    """)
    node = model.graph[0]
    tally = Tally("activations")
    assert tally.takes(node, Choice("Own", 2.0, True))
    assert tally.takes(node, Choice("Own", 0.5, True))
    assert tally.takes(node, Choice("apart", 9.0, False))
    assert not tally.takes(node, Choice(AS_IT_IS, 0.9, True))
    assert not tally.takes(node, Choice(AS_IT_IS, 1.0, False))
    outcome = tally.outcome(model, "Own")
    assert outcome.rewrites == 3
    assert outcome.speedup == pytest.approx(1.0)
    assert outcome.detail == "activations: 2 as Own, 1 as apart"
    assert [item.reason for item in outcome.refusals] == [
        "no other form is measurably faster (0.90 times)",
        "it stays by rule (not measured)",
    ]
    assert model.opset_imports["com.microsoft"] == 1
