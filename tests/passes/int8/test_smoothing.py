"""Outlying channels of normalized activations go into the weights, for nothing or for a Mul."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer import calibration
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Observation, Pass, relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.compress.int8.divisors import divisor
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.int8.qdq import StaticInt8
from burnish.passes.compress.int8.rounding import rounded_activation, rounded_weight

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
    for name, seen in found.items():
        assert seen.rows is None
        rows = np.concatenate(
            [r[name].reshape(-1, len(seen.least)) for r in run_model(watched, feeds)]
        )
        np.testing.assert_allclose(seen.least, rows.min(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen.largest, rows.max(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [17, 23])
def test_rows_of_the_users_data_are_those_of_real_tokens(executor: Executor, opset: int) -> None:
    """`a` is the number of the token, so that one sees which were kept."""
    b = Builder()
    for name in ("ids", "mask"):
        b.input(name, TensorProto.INT64, ["batch", "sequence"])
    b.op("Cast", ["ids"], "number", to=TensorProto.FLOAT)
    b.op("Unsqueeze", ["number", b.constant("last", [2], np.int64)], "a")
    if opset < 18:
        b.op("ReduceMax", ["a"], "pooled", axes=[1], keepdims=0)
    else:
        b.op("ReduceMax", ["a", b.constant("axis", [1], np.int64)], "pooled", keepdims=0)
    b.op("Cast", ["mask"], "used", to=TensorProto.FLOAT)
    b.op("ReduceMax", ["used"], "there", keepdims=0)
    b.op("Add", ["pooled", "there"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 1])
    model = b.model(opset)
    ids = np.arange(12).reshape(2, 6)
    mask = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    folders = executor.store([{"ids": ids, "mask": mask}, {"ids": ids + 100, "mask": mask}])
    found = Calibration(executor, folders, ["mask"], real=True)(model, ["a", "pooled"])
    kept = found["a"].rows
    assert kept is not None
    assert kept.ravel().tolist() == [0, 1, 2, 6, 7, 8, 9, 100, 101, 102, 106, 107, 108, 109]
    # There are fewer rows of what is pooled: each is kept, whatever the tokens' numbers.
    pooled = found["pooled"].rows
    assert pooled is not None
    assert set(pooled.ravel()) == {5, 11, 105, 111}
    assert (found["a"].least, found["a"].largest) == (0, 111)


@pytest.mark.parametrize("count", [1, 3, 7, 40])
def test_rows_are_as_many_however_many_feeds(
    executor: Executor, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an input and of what is computed; bounds are those of all feeds nonetheless."""
    monkeypatch.setattr(calibration, "ROWS", 16)
    model = block()
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((2, 9, WIDTH)).astype(np.float32)} for _ in range(count)]
    found = Calibration(executor, executor.store(feeds), real=True)(model, ["x", "normed", "a"])
    for name, seen in found.items():
        assert seen.rows is not None
        assert seen.rows.shape == (16, 96 if name == "a" else WIDTH)
    every = np.concatenate([feed["x"].reshape(-1, WIDTH) for feed in feeds])
    np.testing.assert_array_equal(found["x"].least, every.min(0))
    np.testing.assert_array_equal(found["x"].largest, every.max(0))
    assert {row.tobytes() for row in found["x"].rows} <= {row.tobytes() for row in every}


def test_what_was_seen_of_one_feed_is_gone_when_the_next_is_read(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the number of feeds, but for the rows that are kept."""
    model, alive, most = block(), [], []
    folders = executor.store(made_up(model) * 4)
    read = executor.read

    def watched(folder: Path) -> dict[str, np.ndarray]:
        most.append(sum(item() is not None for item in alive))
        arrays = read(folder)
        alive.extend(weakref.ref(array) for array in arrays.values())
        return arrays

    monkeypatch.setattr(executor, "read", watched)
    Calibration(executor, folders)(model, ["x", "normed", "a", "b"])
    assert len(most) == 2 * len(folders) > 20
    # One feed's arrays, and those of the bounds so far.
    assert max(most) <= 8


def test_values_whose_channels_vary_in_number_have_one_range(executor: Executor) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence"])
    b.op("Tanh", ["x"], "t")
    b.op("Relu", ["t"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence"])
    feeds = [{"x": np.full((2, size), size / 4, np.float32)} for size in (3, 5, 1, 5)]
    found = Calibration(executor, executor.store(feeds), real=True)(b.model(), ["x", "t"])
    for name, change in (("x", np.asarray), ("t", np.tanh)):
        assert found[name].rows is None
        bounds = np.array([*found[name].least, *found[name].largest])
        np.testing.assert_allclose(bounds, change([0.25, 1.25]), rtol=1e-6)


def test_the_exponent_is_searched_on_real_rows() -> None:
    """What is worth moving into the weights depends on both, and on the rows of the data."""
    model = block()
    members = find_products(model)[0]
    random = np.random.default_rng(0)
    rows = random.standard_normal((200, WIDTH))
    rows[:, [3, 17, 40]] *= 60
    matrix = np.concatenate([m.weight.const_value.numpy() for m in members], axis=1)

    def error(divisors: np.ndarray, by_token: bool) -> float:
        left = rounded_activation(rows / divisors, by_token=by_token)
        right = rounded_weight(matrix * divisors[:, None], saturating=False)
        return relative_l2(rows @ matrix, left @ right)

    for by_token in (False, True):
        seen = Observation(rows.min(0), rows.max(0), rows)
        found = divisor(seen, members, saturating=False, by_token=by_token)
        assert found is not None
        fixed = divisor(replace(seen, rows=None), members, saturating=False, by_token=by_token)
        assert fixed is not None
        assert error(found, by_token) <= error(fixed, by_token) * 1.02
        assert error(found, by_token) < error(np.ones(WIDTH), by_token) / 3
    even = Observation(-np.ones(WIDTH), np.ones(WIDTH), random.uniform(-1, 1, (200, WIDTH)))
    assert divisor(even, members, saturating=False, by_token=True) is None


@pytest.mark.parametrize("transform", [DynamicInt8(static=True), StaticInt8()])
@pytest.mark.parametrize("residual", [False, True], ids=["alone", "residual"])
def test_a_fixed_range_is_that_of_the_quotient(
    executor: Executor, transform: Pass, residual: bool
) -> None:
    model = block(residual=residual)
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((8, 16, WIDTH)).astype(np.float32)} for _ in range(2)]
    observe = Calibration(executor, executor.store(feeds), real=True)
    after = model.clone()
    outcome = transform.apply(after, make_context(last_form, observe=observe))
    assert outcome.rewrites == 2
    (exact,), (found,) = (run_model(item, feeds[:1]) for item in (model, after))
    assert 0 < max(relative_l2(exact[name], found[name]) for name in ("a", "b")) < 0.02


def gated() -> ir.Model:
    """SwiGLU, in which three channels of what the gate lets through stand out."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    b.linear("x", "gate", WIDTH, WIDTH)
    matrix = b.random.standard_normal((WIDTH, WIDTH)) / 8
    matrix[:, [3, 17, 40]] *= 60
    b.op("MatMul", ["x", b.constant("up.weight", matrix)], "up")
    b.op("Sigmoid", ["gate"], "share")
    b.op("Mul", ["gate", "share"], "silu")
    b.op("Mul", ["silu", "up"], "inner")
    matrix = b.random.standard_normal((WIDTH, WIDTH))
    matrix[[3, 17, 40]] /= 60
    b.op("MatMul", ["inner", b.constant("down.weight", matrix)], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    return b.model()


@pytest.mark.parametrize("real", [False, True])
def test_inputs_without_elements_say_nothing(executor: Executor, real: bool) -> None:
    """Caches before the first token, for one."""
    model = block()
    feeds = [{"x": np.zeros((2, 0, WIDTH), np.float32)}, {"x": np.ones((1, 3, WIDTH), np.float32)}]
    seen = Calibration(executor, executor.store(feeds), real=real)(model, ["x"])["x"]
    np.testing.assert_array_equal(seen.least, np.ones(WIDTH))
    np.testing.assert_array_equal(seen.largest, np.ones(WIDTH))
    assert Calibration(executor, executor.store(feeds[:1]), real=real)(model, ["x"]) == {}


@pytest.mark.parametrize("finer", [(), ("y",)], ids=["by tensor", "by token"])
def test_a_gate_is_smoothed_in_the_product_before_it(
    executor: Executor, finer: tuple[str, ...]
) -> None:
    """On the user's data, not on made-up inputs."""
    model = gated()
    folders = executor.store(made_up(model))
    found = []
    for real in (False, True):
        after = model.clone()
        context = make_context(last_form, observe=Calibration(executor, folders, real=real))
        outcome = DynamicInt8(finer=finer).apply(after, context)
        assert ("1 smoothed" in outcome.detail) == real
        assert outcome.hidden == ({"up": ("y",)} if real else {})
        found.append(after)
    plain, smooth = found
    kinds = [[node.op_type for node in item.graph] for item in found]
    assert sorted(kinds[0]) == sorted(kinds[1])
    assert errors(model, smooth)["y"] < errors(model, plain)["y"] / 3


@pytest.mark.parametrize("real", [False, True])
def test_a_product_of_a_table_is_not_smoothed(executor: Executor, real: bool) -> None:
    """The table is stored once, and what is looked up in it must not be multiplied."""
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    scale = np.ones(WIDTH)
    scale[[3, 17, 40]] = 8
    b.constant("scale", scale)
    b.op("Gather", [b.normal("words", 512, WIDTH), "input_ids"], "rows")
    b.linear("rows", "hidden", WIDTH, WIDTH)
    b.op("RMSNormalization", ["hidden", "scale"], "normed", axis=-1)
    b.op("Transpose", ["words"], "turned", perm=[1, 0])
    b.op("MatMul", ["normed", "turned"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 512])
    model = b.model(23)
    after = model.clone()
    observe = Calibration(executor, executor.store(made_up(model)), real=real)
    outcome = DynamicInt8().apply(after, make_context(last_form, observe=observe))
    assert outcome.rewrites == 3
    assert "smoothed" not in outcome.detail
    assert errors(model, after)["y"] < 0.1


def test_ranges_leave_nothing_behind(executor: Executor) -> None:
    model = block()
    folders = executor.store(made_up(model))
    before = set(Path(executor.scratch).iterdir())
    Calibration(executor, folders)(model, ["normed"])
    assert set(Path(executor.scratch).iterdir()) == before
