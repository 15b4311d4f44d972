"""What computes in float16, what does not, and that no infinity or NaN comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Feeds, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.lower.half.half_precision import HalfPrecision

LOWEST = float(np.finfo(np.float32).min)


def halved(
    model: ir.Model, executor: Executor, feeds: list[Feeds], **options: Any
) -> tuple[ir.Model, Outcome]:
    observe = Calibration(executor, executor.store(feeds))
    after = model.clone()
    context = make_context(provider="cuda", observe=observe)
    return after, HalfPrecision(**options).apply(after, context)


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def linear(scale: float = 1.0) -> ir.Model:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8])
    b.linear("x", "hidden", 8, 8)
    b.op("Mul", ["hidden", b.constant("scale", scale)], "scaled")
    b.op("Tanh", ["scaled"], "bounded")
    b.linear("bounded", "y", 8, 8)
    b.output("y", TensorProto.FLOAT, ["batch", 8])
    return b.model()


def normal(seed: int = 0, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape or (4, 8)).astype(np.float32)


def test_ports_keep_their_types(executor: Executor) -> None:
    model = linear()
    after, outcome = halved(model, executor, [{"x": normal()}])
    assert outcome.detail == "6 nodes"
    assert kinds(after)[0] == kinds(after)[-1] == "Cast"
    assert kinds(after).count("Cast") == 2
    for port in (*after.graph.inputs, *after.graph.outputs):
        assert port.dtype is ir.DataType.FLOAT
    exact, half = (run_model(item, [{"x": normal(1)}])[0]["y"] for item in (model, after))
    assert 0 < relative_l2(exact, half) < 5e-3


@pytest.mark.parametrize("factor", [1e4, 1e30])
def test_values_near_the_largest_number_stay(executor: Executor, factor: float) -> None:
    """Nodes that give or read them compute in float32; the others do not care."""
    model = linear()
    model.graph.initializers["scale"].const_value = ir.tensor(np.float32(factor))
    after, outcome = halved(model, executor, [{"x": normal()}])
    named = [item.reason for item in outcome.refusals]
    assert any("near the largest number" in item or "constant reaches" in item for item in named)
    tanh = next(node for node in after.graph if node.op_type == "Tanh")
    assert tanh.inputs[0] is not None
    assert tanh.inputs[0].dtype is ir.DataType.FLOAT
    found = run_model(after, [{"x": normal(1)}])[0]["y"]
    assert np.isfinite(found).all()
    assert relative_l2(run_model(model, [{"x": normal(1)}])[0]["y"], found) < 0.02


def test_inputs_that_would_overflow(executor: Executor) -> None:
    model, feed = linear(), {"x": normal() * 1e6}
    after, outcome = halved(model, executor, [feed])
    assert any("x" in item.reason for item in outcome.refusals)
    assert np.isfinite(run_model(after, [feed])[0]["y"]).all()


@pytest.mark.parametrize("number", [1e-7, 1e-30])
def test_constants_of_few_bits_stay(executor: Executor, number: float) -> None:
    model = linear(number)
    _, outcome = halved(model, executor, [{"x": normal()}])
    assert any("few bits" in item.reason for item in outcome.refusals)


@pytest.mark.parametrize("lowest", [LOWEST, -np.inf, -10000.0])
def test_masked_scores(executor: Executor, lowest: float) -> None:
    """What is ruled out stays so, and rows without any key give numbers."""
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        a (float[1, 4, 8] x, float[1, 1, 4, 4] mask) => (float[1, 4, 8] y)
        { y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x, mask) }
    """)
    mask = np.triu(np.full((4, 4), lowest, np.float32), 1)[None, None]
    feed = {"x": normal(0, 1, 4, 8), "mask": mask}
    after, outcome = halved(model, executor, [feed])
    assert outcome.rewrites == 1
    exact, half = (run_model(item, [feed])[0]["y"] for item in (model, after))
    assert relative_l2(exact, half) < 5e-3
    nothing = feed | {"mask": np.full((1, 1, 4, 4), max(lowest, LOWEST), np.float32)}
    assert np.isfinite(run_model(after, [nothing])[0]["y"]).all()


def test_a_value_that_both_read_is_cast_once(executor: Executor) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8])
    b.linear("x", "a", 8, 8)
    for name in ("first", "second"):
        b.op("Erf", ["a"], name)
        b.output(name, TensorProto.FLOAT, ["batch", 8])
    b.op("Relu", ["a"], "third")
    b.output("third", TensorProto.FLOAT, ["batch", 8])
    after, _ = halved(b.model(), executor, [{"x": normal()}])
    assert kinds(after).count("Cast") == 3  # of the input, before Erf, of the third output


def test_what_is_kept(executor: Executor) -> None:
    after, outcome = halved(linear(), executor, [{"x": normal()}], keep=("bounded",))
    assert [item.reason for item in outcome.refusals] == ["kept in fp32 to stay within the budget"]
    tanh = next(node for node in after.graph if node.op_type == "Tanh")
    assert tanh.outputs[0].dtype is ir.DataType.FLOAT


def test_on_processors_weights_are_stored() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 64])
    b.linear("x", "y", 64, 64)
    b.output("y", TensorProto.FLOAT, ["batch", 64])
    model = b.model()
    after = model.clone()
    outcome = HalfPrecision().apply(after, make_context())
    assert outcome.detail == "1 weights stored, cast when loaded"
    assert kinds(after) == ["Cast", "MatMul", "Add"]
    feed = [{"x": normal(0, 3, 64)}]
    exact, half = (run_model(item, feed)[0]["y"] for item in (model, after))
    assert 0 < relative_l2(exact, half) < 1e-3
