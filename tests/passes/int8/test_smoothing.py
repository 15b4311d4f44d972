"""Outlying channels of normalized activations go into the weights, for nothing or for a Mul."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.compress.int8.dynamic import DynamicInt8

WIDTH = 64


def block(
    normalization: str = "LayerNormalization", *, residual: bool = False, opset: int = 23
) -> ir.Model:
    """A normalization with three channels that stand out by far, and two products that read it."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    scale = np.ones(WIDTH)
    scale[[3, 17, 40]] = 60
    b.constant("scale", scale)
    b.normal("shift", WIDTH, scale=0.1)
    if normalization == "LayerNormalization":
        b.op("LayerNormalization", ["x", "scale", "shift"], "normed")
    elif normalization == "RMSNormalization":
        b.op("RMSNormalization", ["x", "scale"], "normed", axis=-1)
    else:
        b.op("Tanh", ["x"], "even")
        b.op("Mul", ["scale", "even"], "scaled")
        b.op("Add", ["scaled", "shift"], "normed")
    for name, width in (("a", 96), ("b", 64)):
        matrix = b.random.standard_normal((WIDTH, width))
        matrix[[3, 17, 40]] /= 60
        b.constant(f"{name}.weight", matrix)
        b.op("MatMul", ["normed", f"{name}.weight"], name)
        b.output(name, TensorProto.FLOAT, ["batch", "sequence", width])
    if residual:
        b.op("Relu", ["normed"], "rest")
        b.output("rest", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    return b.model(opset)


def quantized(model: ir.Model, executor: Executor, *, smooth: bool = True) -> tuple[ir.Model, str]:
    observe = Calibration(executor, executor.store(made_up(model))) if smooth else None
    after = model.clone()
    outcome = DynamicInt8().apply(after, make_context(last_form, observe=observe))
    assert outcome.rewrites == 2
    return after, outcome.detail


def errors(before: ir.Model, after: ir.Model) -> dict[str, float]:
    """On feeds that nothing was calibrated on."""
    feeds = made_up(before, seed=50)
    pairs = list(zip(run_model(before, feeds), run_model(after, feeds), strict=True))
    return {n: max(relative_l2(a[n], b[n]) for a, b in pairs) for n in pairs[0][0]}


@pytest.mark.parametrize("normalization", ["LayerNormalization", "RMSNormalization", "written out"])
@pytest.mark.parametrize("residual", [False, True], ids=["alone", "residual"])
def test_the_error_falls(executor: Executor, normalization: str, residual: bool) -> None:
    model = block(normalization, residual=residual)
    plain, said = quantized(model, executor, smooth=False)
    smooth, detail = quantized(model, executor)
    assert "smoothed" not in said
    assert detail.endswith("2 smoothed")
    before, after = errors(model, plain), errors(model, smooth)
    assert after["a"] < before["a"] / 3
    assert after["b"] < before["b"] / 3
    if residual:
        assert after["rest"] == 0.0


def test_it_costs_nothing_where_only_products_read_the_activation(executor: Executor) -> None:
    plain, _ = quantized(block(), executor, smooth=False)
    smooth, _ = quantized(block(), executor)
    assert [node.op_type for node in smooth.graph] == [node.op_type for node in plain.graph]


@pytest.mark.parametrize("opset", [17, 18])
def test_a_residual_costs_one_mul(executor: Executor, opset: int) -> None:
    plain, _ = quantized(block(residual=True, opset=opset), executor, smooth=False)
    smooth, _ = quantized(block(residual=True, opset=opset), executor)
    kinds = [[node.op_type for node in model.graph] for model in (plain, smooth)]
    assert kinds[1].count("Mul") == kinds[0].count("Mul") + 1
    assert len(kinds[1]) == len(kinds[0]) + 1


def even(model: ir.Model) -> None:
    model.graph.initializers["scale"].const_value = ir.tensor(np.ones(WIDTH, np.float32))
    for name in ("a.weight", "b.weight"):
        shape = model.graph.initializers[name].const_value.shape.numpy()
        matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializers[name].const_value = ir.tensor(matrix)


def shared(model: ir.Model) -> None:
    """The weights are read elsewhere too."""
    for name in ("a.weight", "b.weight"):
        node = ir.node("Transpose", [model.graph.initializers[name]], {"perm": (1, 0)})
        node.outputs[0].name = f"{name}.t"
        model.graph.append(node)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.append(node.outputs[0])


def not_normalized(model: ir.Model) -> None:
    node = next(node for node in model.graph if node.op_type == "LayerNormalization")
    relu = ir.node("Relu", [node.outputs[0]])
    ir.convenience.replace_all_uses_with(node.outputs[0], relu.outputs[0])
    relu.replace_input_with(0, node.outputs[0])
    model.graph.insert_after(node, relu)


@pytest.mark.parametrize("change", [even, shared, not_normalized])
def test_left_alone(executor: Executor, change: Any) -> None:
    model = block()
    change(model)
    _, detail = quantized(model, executor)
    assert "smoothed" not in detail


@pytest.mark.parametrize("opset", [17, 23])
def test_ranges_are_those_of_all_feeds(executor: Executor, opset: int) -> None:
    model = block(opset=opset)
    feeds = made_up(model)
    observe = Calibration(executor, executor.store(feeds))
    found = observe(model, ["normed", "a"])
    watched = model.clone()
    watched.graph.outputs.append(
        next(node.outputs[0] for node in watched.graph if node.op_type == "LayerNormalization")
    )
    watched.graph.outputs[-1].type = ir.TensorType(ir.DataType.FLOAT)
    for name, bounds in found.items():
        rows = [run[name].reshape(-1, bounds.shape[1]) for run in run_model(watched, feeds)]
        expected = np.stack([np.concatenate(rows).min(0), np.concatenate(rows).max(0)])
        np.testing.assert_allclose(bounds, expected, rtol=1e-5, atol=1e-6)


def test_ranges_leave_nothing_behind(executor: Executor) -> None:
    model = block()
    folders = executor.store(made_up(model))
    before = set(Path(executor.scratch).iterdir())
    Calibration(executor, folders)(model, ["normed"])
    assert set(Path(executor.scratch).iterdir()) == before
