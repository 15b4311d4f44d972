"""Products between pairs, as TensorRT wants them; the processor vouches for the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, loaded_operators, made_up, make_checker, make_context, run_model
from onnx import TensorProto
from samples import Builder, branches, encoder

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.compress.int8.qdq import FACTOR, NO_DATA, TABLE, UNSEEN, StaticInt8
from burnish.runtimes.targets import NATIVE, target_of

WIDTH = 32

LOOSER = 2 if target_of(NATIVE).saturating else 1
"""Pairs are for TensorRT: where processors add in 16 bits, ONNX Runtime is less exact with them."""


def apply(
    model: ir.Model,
    executor: Executor,
    *,
    real: bool = True,
    choose: Any = last_form,
    **options: Any,
) -> tuple[ir.Model, Outcome]:
    observe = Calibration(executor, executor.store(made_up(model)), real=real)
    after = model.clone()
    context = make_context(choose, provider="tensorrt", observe=observe)
    return after, StaticInt8(**options).apply(after, context)


def layers(**attributes: float) -> ir.Model:
    """Two products of one activation, and a third; the second stored the other way round."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", WIDTH])
    b.linear("x", "a", WIDTH, 16)
    b.normal("g.weight", *((24, WIDTH) if attributes.get("transB") else (WIDTH, 24)))
    b.normal("g.bias", 24)
    b.op("Gemm", ["x", "g.weight", "g.bias"], "g", **attributes)
    b.op("Relu", ["g"], "r")
    b.linear("r", "y", 24, 8)
    b.output("a", TensorProto.FLOAT, ["batch", 16])
    b.output("y", TensorProto.FLOAT, ["batch", 8])
    return b.model(20)


def error(before: ir.Model, after: ir.Model, *, optimize: bool = False) -> float:
    given = made_up(before, seed=3)
    pairs = zip(run_model(before, given), run_model(after, given, optimize=optimize), strict=True)
    return max(relative_l2(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


def check_pairs(model: ir.Model) -> int:
    """Hold every pair to what TensorRT takes; the number of products between them."""
    found = 0
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = node.inputs[1].const_value.numpy()
            assert (scale > 0).all()
            assert scale.dtype == np.float32
        if node.op_type == "QuantizeLinear":
            zero = node.inputs[2].const_value.numpy()
            assert (zero.dtype, zero.shape, int(zero)) == (np.int8, (), 0)
        if node.op_type != "MatMul":
            continue
        left, right = (value.producer() for value in node.inputs)
        if right is None or right.op_type != "DequantizeLinear":
            continue
        found += 1
        assert left.op_type == "DequantizeLinear"
        assert left.inputs[0].producer().op_type == "QuantizeLinear"
        stored = right.inputs[0].const_value.numpy()
        assert stored.dtype == np.int8
        assert np.abs(stored.astype(int)).max() == 127
        assert right.inputs[1].const_value.shape.numpy() == (stored.shape[1],)
        assert right.attributes.get_int("axis") == 1
        assert len(right.inputs) < 3 or not right.inputs[2].const_value.numpy().any()
    return found


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.3, "beta": 3.0}])
def test_products_between_pairs(executor: Executor, attributes: dict[str, float]) -> None:
    model = layers(**attributes)
    after, outcome = apply(model, executor)
    assert (outcome.rewrites, outcome.detail) == (3, "3 products")
    assert check_pairs(after) == 3
    kinds = [node.op_type for node in after.graph]
    # The activation that two products share goes through int8 once.
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (2, 2 + 3)
    assert not {"a.weight", "g.weight", "y.weight"} & {*after.graph.initializers}
    # Of few rows: what others have beyond their range is cut off.
    assert 0 < error(model, after) < 0.08


def test_a_runtime_computes_them_in_integers(executor: Executor) -> None:
    """What ONNX Runtime makes of the pairs on the processor is what other runtimes may make."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    b.linear("x", "y", WIDTH, 16)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 16])
    model = b.model(20)
    after, _ = apply(model, executor)
    loaded = loaded_operators(after)
    assert "MatMulIntegerToFloat" in loaded
    assert "MatMul" not in loaded
    assert 0 < error(model, after, optimize=True) < 0.03 * LOOSER


def test_numbers_are_those_of_the_integers(executor: Executor) -> None:
    model = layers()
    after, _ = apply(model, executor, ranges="minmax")
    x = made_up(model, seed=8)[0]["x"]
    every = np.concatenate([feed["x"] for feed in made_up(model)])
    scale = np.abs(every).max() / 127
    left = np.clip(np.rint(x / scale), -128, 127) * scale
    values = {name: item.const_value.numpy() for name, item in after.graph.initializers.items()}
    right = values["a.weight_int8"] * values["a.weight_scales"].astype(np.float64)
    expected = left @ right + values["a.bias"]
    np.testing.assert_allclose(run_model(after, [{"x": x}])[0]["a"], expected, atol=2e-5)


def test_made_up_inputs_give_no_ranges(executor: Executor) -> None:
    model = layers()
    _, outcome = apply(model, executor, real=False)
    assert outcome == Outcome(detail=NO_DATA)
    bare = model.clone()
    assert StaticInt8().apply(bare, make_context(last_form)) == Outcome(detail=NO_DATA)


def test_left_alone(executor: Executor) -> None:
    b = Builder()
    b.input("ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 4096, WIDTH)
    b.op("Gather", ["words", "ids"], "rows")
    b.linear("rows", "a", WIDTH, 16)
    b.linear("a", "y", 16, 8)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    after, outcome = apply(b.model(20), executor, keep=("a",))
    assert outcome.rewrites == check_pairs(after) == 1
    reasons = {item.reason for item in outcome.refusals}
    assert reasons == {TABLE, "kept in fp32 to stay within the budget"}
    _, outcome = apply(layers(alpha=-1.0), executor)
    assert [item.reason for item in outcome.refusals] == [FACTOR]
    assert outcome.rewrites == 2

    def slower(key: str, forms: Any, rule: str) -> Choice:
        return Choice("fp32", 0.7, True)

    _, outcome = apply(layers(), executor, choose=slower)
    assert (outcome.rewrites, outcome.speedup) == (0, pytest.approx(0.7))
    assert "int8 is not measurably faster (32 x 16, 0.70 times)" in {
        item.reason for item in outcome.refusals
    }
    _, outcome = apply(layers(), executor, choose=slower, force=True)
    assert outcome.rewrites == 3


def test_a_subgraph_is_not_observed(executor: Executor) -> None:
    model = branches()
    _, outcome = apply(model, executor)
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == [UNSEEN]


def test_the_whole_way_to_tensorrt(executor: Executor) -> None:
    """Its passes on an encoder, whose projections of one input are merged by then."""
    model = ir.from_proto(encoder(width=64, vocabulary=512))
    observe = Calibration(executor, executor.store(made_up(model)), ["attention_mask"], real=True)
    context = dataclasses.replace(make_context(last_form, observe=observe), provider="tensorrt")
    passes = passes_for(Request("model.onnx", provider="tensorrt", int8=True, data="x.npz"))
    compiled = pipeline.run(model, passes, context, make_checker(executor, model).check)
    assert "rejected" not in {step.status for step in compiled.steps}, [
        step.reason for step in compiled.steps
    ]
    assert check_pairs(compiled.model) == 9
    given = made_up(model)
    for optimize in (False, True):
        results = run_model(compiled.model, given, optimize=optimize)
        for mine, theirs in zip(run_model(model, given), results, strict=True):
            lost = relative_l2(mine["last_hidden_state"], theirs["last_hidden_state"])
            assert 0 < lost < 0.1 * LOOSER
