"""What computes in short types, what does not, and that no infinity or NaN comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import made_up, make_checker, make_context, run_model
from onnx import TensorProto
from samples import Builder, encoder, parse

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Feeds, Outcome, relative_l2
from burnish.optimizer.emulation import emulated
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import load
from burnish.optimizer.saving import save
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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("lowest", [LOWEST, -np.inf, -10000.0])
def test_masked_scores(executor: Executor, lowest: float, dtype: str) -> None:
    """What is ruled out stays so, and rows without any key give numbers."""
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        a (float[1, 4, 8] x, float[1, 1, 4, 4] mask) => (float[1, 4, 8] y)
        { y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x, mask) }
    """)
    mask = np.triu(np.full((4, 4), lowest, np.float32), 1)[None, None]
    feed = {"x": normal(0, 1, 4, 8), "mask": mask}
    after, outcome = halved(model, executor, [feed], dtype=dtype)
    assert outcome.rewrites == 1
    exact, half = (run_model(item, [feed])[0]["y"] for item in (model, emulated(after)))
    assert relative_l2(exact, half) < (5e-3 if dtype == "float16" else 2e-2)
    nothing = feed | {"mask": np.full((1, 1, 4, 4), max(lowest, LOWEST), np.float32)}
    assert np.isfinite(run_model(emulated(after), [nothing])[0]["y"]).all()


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


def stored(width: int = 64, opset: int = 17) -> ir.Model:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", width])
    b.linear("x", "y", width, width)
    b.output("y", TensorProto.FLOAT, ["batch", width])
    return b.model(opset)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_on_processors_weights_are_stored(provider: str) -> None:
    model = stored()
    after = model.clone()
    outcome = HalfPrecision().apply(after, make_context(provider=provider))
    assert outcome.detail == "1 weights stored, cast when loaded"
    assert kinds(after) == ["Cast", "MatMul", "Add"]
    feed = [{"x": normal(0, 3, 64)}]
    exact, half = (run_model(item, feed)[0]["y"] for item in (model, after))
    assert 0 < relative_l2(exact, half) < 1e-3


@pytest.mark.parametrize("external", [False, True])
def test_storage_in_bfloat16(tmp_path: Path, external: bool) -> None:
    """It is what rounding each weight gives, also as a file, which has half the size."""
    model = stored(256)
    after = model.clone()
    assert HalfPrecision(dtype="bfloat16").apply(after, make_context()).rewrites == 1
    sizes = [
        sum(file.stat().st_size for file in save(item, tmp_path / name, external=external))
        for item, name in ((model, "whole.onnx"), (after, "half.onnx"))
    ]
    assert sizes[1] < 0.51 * sizes[0]
    onnx.checker.check_model(str(tmp_path / "half.onnx"), full_check=True)
    again = load(tmp_path / "half.onnx").model
    assert again.graph.initializers["y.weight_half"].dtype is ir.DataType.BFLOAT16
    x = normal(0, 3, 256)
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    weight, bias = (weights[name].numpy() for name in ("y.weight", "y.bias"))  # type: ignore[union-attr]
    rounded = weight.astype(ml_dtypes.bfloat16).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    for found in (run_model(after, [{"x": x}])[0]["y"], session.run(None, {"x": x})[0]):
        np.testing.assert_allclose(found, x @ rounded + bias, rtol=1e-4, atol=1e-4)


def test_older_sets_have_no_bfloat16() -> None:
    model = stored(opset=12)
    for provider in ("cpu", "cuda"):
        after = model.clone()
        outcome = HalfPrecision(dtype="bfloat16").apply(after, make_context(provider=provider))
        assert (outcome.rewrites, outcome.detail) == (0, "operator set 12 has no bfloat16")
        assert kinds(after) == kinds(model)


def test_operators_that_take_no_bfloat16_yet() -> None:
    """A convolution takes it from set 22 on, a softmax would round what it amplified."""
    text = """
        <ir_version: 10, opset_import: ["" : %d]>
        a (float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y) <float[2, 2, 1, 1] w = {1, 2, 3, 4}> {
            c = Conv (x, w)
            s = Softmax (c)
            y = Mul (s, s)
        }
    """
    found = {}
    for opset in (21, 22):
        after = parse(text % opset)
        context = make_context(provider="cuda")
        outcome = HalfPrecision(dtype="bfloat16").apply(after, context)
        onnx.checker.check_model(ir.to_proto(after), full_check=True)
        found[opset] = [item.reason for item in outcome.refusals]
    softmax = "Softmax stays in float32"
    assert found[21] == ["Conv of operator set 21 does not take bfloat16", softmax]
    assert found[22] == [softmax]


def test_bfloat16_has_the_range_of_float32(executor: Executor) -> None:
    """What float16 cannot hold it can."""
    model, feed = linear(), {"x": normal() * 1e20}
    after, outcome = halved(model, executor, [feed], dtype="bfloat16")
    assert not outcome.refusals
    found = run_model(emulated(after), [feed])[0]["y"]
    assert relative_l2(run_model(model, [feed])[0]["y"], found) < 0.02


def test_the_check_emulates_bfloat16(executor: Executor) -> None:
    """A whole encoder for a GPU is held to the promise, and one that is wrong is rejected."""
    model = ir.from_proto(encoder())
    feeds = made_up(model)
    context = make_context(provider="cuda", observe=Calibration(executor, executor.store(feeds)))
    passes = passes_for(Request("encoder.onnx", provider="cuda", bf16=True))
    check = make_checker(executor, model).check
    compiled = pipeline.run(model, passes, context, check)
    step = compiled.steps[-1]
    assert (step.transform.name, step.status) == ("half-precision", "kept"), step.reason
    assert step.error is not None
    assert 1e-4 < step.error < 0.05
    after = compiled.model
    short = [node for node in after.graph if node.outputs[0].dtype is ir.DataType.BFLOAT16]
    assert sum(node.op_type == "MatMul" for node in short) >= 8
    for mine, theirs in zip(
        run_model(model, feeds), run_model(emulated(after), feeds), strict=True
    ):
        for name, array in mine.items():
            assert 1e-4 < relative_l2(array, theirs[name]) < 0.05

    wrong = after.clone()
    residual = [node for node in wrong.graph if node.op_type == "Add"][-1]
    assert residual.outputs[0].dtype is ir.DataType.BFLOAT16
    residual.op_type = "Sub"
    verdict = check(compiled.snapshots[-1], wrong, HalfPrecision.promise)
    assert verdict.problem.startswith("promised lossy")
