"""Int8 with ranges that the user's data fixes: who gets them, and what becomes of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from harness import choosing, last_form, loaded_operators, make_context, run_model
from onnx import TensorProto
from samples import Builder, branches

from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.int8.groups import sample_of
from burnish.passes.compress.int8.ranges import METHODS, Range
from burnish.passes.compress.int8.sample import is_static

WIDTH = 32
STATIC = choosing("int8-static")


def layers(*widths: int) -> ir.Model:
    """Linear layers on one input."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    for index, width in enumerate(widths):
        b.linear("x", f"y{index}", WIDTH, width)
        b.output(f"y{index}", TensorProto.FLOAT, ["batch", "sequence", width])
    return b.model(20)


def feeds(seed: int = 0, count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((4, 8, WIDTH)).astype(np.float32)} for _ in range(count)]


def quantized(
    model: ir.Model,
    executor: Executor,
    choose: object = STATIC,
    *,
    real: bool = True,
    **options: object,
) -> tuple[ir.Model, Outcome]:
    observe = Calibration(executor, executor.store(feeds()), real=real)
    after = model.clone()
    transform = DynamicInt8(static=True, **options)  # type: ignore[arg-type]
    return after, transform.apply(after, make_context(choose, observe=observe))


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def errors(before: ir.Model, after: ir.Model, seed: int = 50) -> list[float]:
    """On feeds that nothing was calibrated on."""
    given = feeds(seed)
    pairs = zip(run_model(before, given), run_model(after, given), strict=True)
    return [relative_l2(mine[name], theirs[name]) for mine, theirs in pairs for name in mine]


def test_the_range_is_found_before_the_model_runs(executor: Executor) -> None:
    model = layers(16, 24)
    after, outcome = quantized(model, executor)
    assert outcome.detail == "2 products alone, 2 of fixed range, 2 by error feedback"
    found = kinds(after)
    assert "DynamicQuantizeLinear" not in found
    assert (found["QuantizeLinear"], found["MatMulInteger"]) == (1, 2)
    assert 0 < max(errors(model, after)) < 0.03
    # A range that is fixed does not follow what it is given.
    large = [{"x": feed["x"] * 100} for feed in feeds(50)]
    cut = run_model(after, large)[0]["y0"]
    dynamic, _ = quantized(model, executor, choosing("int8"))
    exact = run_model(model, large)[0]["y0"]
    assert relative_l2(exact, run_model(dynamic, large)[0]["y0"]) < 0.02
    assert relative_l2(exact, cut) > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_numbers_are_those_of_the_range(executor: Executor, method: str) -> None:
    model = layers(16)
    after, _ = quantized(model, executor, ranges=method)
    node = next(node for node in after.graph if node.op_type == "QuantizeLinear")
    scale, zero = (value.const_value.numpy() for value in node.inputs[1:])  # type: ignore[union-attr]
    values = {name: item.const_value.numpy() for name, item in after.graph.initializers.items()}  # type: ignore[union-attr]
    weight = values["y0.weight_int8"] * values["y0.weight_scales"].astype(np.float64)
    x = feeds(9)[0]["x"]
    left = Range(float(scale), int(zero), 0, 255).rounded(x)
    expected = left @ weight + values["y0.bias"]
    np.testing.assert_allclose(run_model(after, [{"x": x}])[0]["y0"], expected, atol=2e-5)
    if method == "minmax":
        every = np.concatenate([feed["x"] for feed in feeds()])
        assert scale == pytest.approx((every.max() - every.min()) / 255)
        assert zero == round(-every.min() / scale)


def test_onnx_runtime_makes_one_kernel_of_it(executor: Executor) -> None:
    """What is timed is what runs: the product with its scales and its bias."""
    after, _ = quantized(layers(16, 24), executor)
    loaded = Counter(loaded_operators(after))
    assert loaded["MatMulIntegerToFloat"] == 2
    assert not {"MatMulInteger", "Cast", "Mul", "Add", "DynamicQuantizeLinear"} & {*loaded}
    members = find_products(layers(16, 24))[0]
    sample = ir.from_proto(sample_of(members, make_context()).build("int8-static"))
    assert Counter(loaded_operators(sample)) == loaded


def test_merged_products(executor: Executor) -> None:
    model = layers(16, 24)
    apart, _ = quantized(model, executor, ranges="minmax")
    merged, outcome = quantized(model, executor, last_form, ranges="minmax")
    assert outcome.detail == "2 products merged, 2 of fixed range, 2 by error feedback"
    assert kinds(merged)["Split"] == kinds(merged)["MatMulInteger"] == 1
    for first, second in zip(run_model(apart, feeds(5)), run_model(merged, feeds(5)), strict=True):
        for name in first:
            np.testing.assert_allclose(first[name], second[name], atol=1e-6)


@pytest.mark.parametrize("real", [True, False])
def test_only_real_data_says_what_ranges_are(executor: Executor, real: bool) -> None:
    """What is offered to the tuner, and that a record without the form does not decide."""
    offered: list[tuple[str, list[str]]] = []

    def choose(key: str, forms: dict, rule: str) -> Choice:
        offered.append((key, list(forms)))
        return last_form(key, forms, rule)

    after, _ = quantized(layers(16), executor, choose, real=real)
    ((key, forms),) = offered
    assert forms == (["fp32", "int8", "int8-static"] if real else ["fp32", "int8"])
    assert key.endswith(" static") is real
    assert (kinds(after)["DynamicQuantizeLinear"] == 0) is real
    assert is_static(forms[-1]) is real


def test_a_range_for_each_token_comes_before_a_fixed_one(executor: Executor) -> None:
    after, outcome = quantized(layers(16), executor, last_form, finer=("y0",))
    assert outcome.detail == "1 products alone, 1 by token, 1 by error feedback"
    assert kinds(after)["Abs"] == 1


def test_what_is_not_observed_has_its_range_found_in_each_run(executor: Executor) -> None:
    """In a subgraph, whose values calibration does not see."""
    model = branches()
    random = np.random.default_rng(0)
    feed = {"go": np.array(True), "x": random.standard_normal((5, 2)).astype(np.float32)}
    observe = Calibration(executor, executor.store([feed]), real=True)
    after = model.clone()
    outcome = DynamicInt8(static=True).apply(after, make_context(last_form, observe=observe))
    assert outcome.rewrites == 1
    inner = Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(after.graph))
    assert inner["DynamicQuantizeLinear"] == 1
    mine, theirs = (run_model(item, [feed])[0]["y"] for item in (model, after))
    assert relative_l2(mine, theirs) < 0.05
