"""Weights in blocks: what they stand for, what is shared, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer import pipeline
from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import identical
from burnish.optimizer.report import least_runtime
from burnish.optimizer.verify import Checker
from burnish.passes.compress.blockwise import blocks, divisors, rewrite
from burnish.passes.compress.blockwise.blocks import Layout, Matrix, quantize
from burnish.passes.compress.blockwise.divisors import divisor
from burnish.passes.compress.blockwise.weight_only import WeightOnly
from burnish.passes.compress.error_feedback import Feedback, rounded

LAYOUTS = [
    Layout(bits, size, symmetric) for bits in (4, 8) for size in (16, 32, 128)
    for symmetric in (False, True)
]  # fmt: skip


def apply(model: ir.Model, **options: Any) -> tuple[ir.Model, Outcome]:
    after = model.clone()
    return after, WeightOnly(**options).apply(after, make_context(last_form))


def error(before: ir.Model, after: ir.Model) -> float:
    feeds = made_up(before)
    pairs = zip(run_model(before, feeds), run_model(after, feeds), strict=True)
    return max(relative_l2(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


def linear(k: int = 128, n: int = 48, opset: int = 17) -> ir.Model:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", k])
    b.linear("x", "y", k, n)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", n])
    return b.model(opset)


def decoded(made: blocks.Quantized, layout: Layout, k: int) -> np.ndarray:
    """The matrix [k, n] that a stored one stands for, as ONNX Runtime's documentation has it."""
    codes = made.codes.numpy()
    zeros: Any = layout.middle if made.zeros is None else made.zeros
    if layout.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], -1)
        if made.zeros is not None:
            pairs = np.stack([made.zeros & 15, made.zeros >> 4], axis=-1)
            zeros = pairs.reshape(len(codes), -1)[:, : codes.shape[1]]
    if made.zeros is not None:
        zeros = zeros[..., None].astype(np.float32)
    values = (codes.astype(np.float32) - zeros) * made.scales[..., None]
    return values.reshape(len(codes), -1)[:, :k].T


# What blocks stand for


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_no_weight_is_further_away_than_half_a_step(layout: Layout, transposed: bool) -> None:
    layout = Layout(layout.bits, layout.size, layout.symmetric, search=False)
    matrix = np.random.default_rng(0).standard_normal((200, 24)).astype(np.float32)
    stored = ir.tensor(np.ascontiguousarray(matrix.T) if transposed else matrix)
    made = quantize(Matrix(stored, transposed), layout)
    steps = np.repeat(np.abs(made.scales).T, layout.size, axis=0)[:200]
    # Where both ends are as far out, the end without a code of its own is a whole step away.
    reach = 1.0 if layout.symmetric else 0.51
    assert (np.abs(decoded(made, layout, 200) - matrix) <= reach * steps + 1e-6).all()


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=str)
def test_the_search_lowers_the_error(layout: Layout) -> None:
    matrix = np.random.default_rng(0).standard_t(3, (256, 64)).astype(np.float32)
    wide = Layout(layout.bits, layout.size, layout.symmetric, search=False)
    stored = Matrix(ir.tensor(matrix), False)
    searched, plain = (decoded(quantize(stored, item), item, 256) for item in (layout, wide))
    assert np.linalg.norm(searched - matrix) < 0.99 * np.linalg.norm(plain - matrix)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_scales_are_those_of_least_squares(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the codes, no other scale loses less."""
    matrix = np.random.default_rng(0).laplace(size=(256, 48)).astype(np.float32)
    stored = Matrix(ir.tensor(matrix), False)
    made = quantize(stored, layout)
    found = decoded(made, layout, 256)
    shape = (-1, layout.size, 48)
    inner = (found.reshape(shape) * matrix.reshape(shape)).sum(1)
    best = inner / (found.reshape(shape) ** 2).sum(1)
    # As many as have settled after a few turns.
    assert (np.abs(best - 1) < 1e-4).mean() > 0.7
    monkeypatch.setattr(blocks, "FITS", 0)
    ranges = decoded(quantize(stored, layout), layout, 256)
    assert np.linalg.norm(found - matrix) < 0.998 * np.linalg.norm(ranges - matrix)


def test_parts_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = ir.tensor(np.random.default_rng(0).standard_normal((96, 50)).astype(np.float32))
    whole = quantize(Matrix(matrix, False), Layout())
    monkeypatch.setattr(blocks, "ELEMENTS", 96 * 7)
    parts = quantize(Matrix(matrix, False), Layout())
    np.testing.assert_array_equal(whole.codes.numpy(), parts.codes.numpy())
    np.testing.assert_allclose(whole.scales, parts.scales, rtol=1e-6)


def test_zeros_and_tiny_weights() -> None:
    matrix = np.zeros((64, 3), np.float32)
    matrix[:32, 1] = 1e-42
    matrix[:, 2] = 5.0
    for layout in LAYOUTS[:2]:
        made = quantize(Matrix(ir.tensor(matrix), False), layout)
        np.testing.assert_allclose(decoded(made, layout, 64), matrix, atol=1e-6)


# In a model


@pytest.mark.parametrize("k", [128, 100, 40])
@pytest.mark.parametrize(("bits", "bound"), [(4, 0.15), (8, 0.012)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_product(k: int, bits: int, bound: float, symmetric: bool) -> None:
    model = linear(k, 128)
    after, outcome = apply(model, bits=bits, symmetric=symmetric)
    assert outcome.detail == "1 products"
    assert [node.op_type for node in after.graph] == ["MatMulNBits", "Add"]
    assert 0 < error(model, after) < bound


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.3, "beta": 3.0}])
def test_gemm(attributes: dict[str, Any]) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 64])
    b.normal("w", *((80, 64) if "transB" in attributes else (64, 80)))
    b.normal("b", 80)
    b.op("Gemm", ["x", "w", "b"], "y", **attributes)
    b.output("y", TensorProto.FLOAT, ["batch", 80])
    model = b.model()
    after, outcome = apply(model, bits=8)
    assert outcome.rewrites == 1
    assert 0 < error(model, after) < 0.012


def _tied(*, head: bool = True) -> ir.Model:
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 512, 64)
    b.op("Gather", ["words", "input_ids"], "rows")
    b.op("Tanh", ["rows"], "hidden")
    width = 64
    if head:
        b.op("Transpose", ["words"], "turned", perm=[1, 0])
        b.op("MatMul", ["hidden", "turned"], "y")
        width = 512
    else:
        b.op("Identity", ["hidden"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", width])
    return b.model()


@pytest.mark.parametrize(("bits", "bound"), [(4, 0.15), (8, 0.012)])
@pytest.mark.parametrize("head", [True, False], ids=["tied", "alone"])
def test_a_table(bits: int, bound: float, head: bool) -> None:
    model = _tied(head=head)
    after, outcome = apply(model, bits=bits)
    assert outcome.rewrites == 1 + head
    stored = [item.const_value.nbytes for item in after.graph.initializers.values()]
    # Once: the codes, a scale of four bytes and a zero for every 32 weights.
    assert sum(stored) <= 512 * 64 * (bits / 8 + 4 / 32 + bits / 8 / 32) + 64
    assert 0 < error(model, after) < bound


@pytest.mark.parametrize("finer", ["y", "rows"])
def test_finer_places_get_eight_bits(finer: str) -> None:
    """A table that is also a product's weight is stored once, as the product needs it."""
    model = _tied()
    after, outcome = apply(model, finer=(finer,))
    assert outcome.rewrites == 2
    bits = {
        node.op_type: node.attributes.get_int("bits")
        for node in after.graph
        if node.domain == "com.microsoft"
    }
    wanted = 8 if finer == "y" else 4
    assert bits == {"GatherBlockQuantized": wanted, "MatMulNBits": wanted}
    assert ("1 with 8 bits" in outcome.detail) == (finer == "y")
    lone = _tied(head=False)
    fine, coarse = apply(lone, finer=("rows",))[0], apply(lone)[0]
    assert error(lone, fine) < 0.1 * error(lone, coarse)


@pytest.mark.parametrize(
    ("model", "bits", "least"),
    [(linear(), 4, "1.17"), (linear(), 8, "1.22"), (_tied(head=False), 4, "1.23")],
)
def test_the_least_runtime_is_that_of_the_kernels(model: ir.Model, bits: int, least: str) -> None:
    assert least_runtime(model) == "1.12"
    assert least_runtime(apply(model, bits=bits)[0]) == least


def test_layers_that_share_a_weight_store_it_once() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 64])
    b.normal("w", 64, 64)
    for source, target in ("xa", "ab", "by"):
        b.op("MatMul", [source, "w"], f"{target}0")
        b.op("Tanh", [f"{target}0"], target)
    b.output("y", TensorProto.FLOAT, ["batch", 64])
    after, outcome = apply(b.model())
    assert outcome.rewrites == 3
    assert list(after.graph.initializers) == ["w_blocks", "w_scales", "w_zeros"]


def test_the_users_data_lowers_the_error(executor: Executor) -> None:
    model = linear()
    random = np.random.default_rng(0)
    mixing = random.standard_normal((24, 128))

    def rows(seed: int) -> np.ndarray:
        few = np.random.default_rng(seed).standard_normal((4, 100, 24))
        return (few @ mixing).astype(np.float32)

    observe = Calibration(executor, executor.store([{"x": rows(1)}]), real=True)
    nearest, _ = apply(model)
    feedback = model.clone()
    outcome = WeightOnly().apply(feedback, make_context(last_form, observe=observe))
    assert outcome.detail == "1 products, 1 by error feedback"
    feed = [{"x": rows(2)}]
    exact, near, fed = (run_model(item, feed)[0]["y"] for item in (model, nearest, feedback))
    assert relative_l2(exact, fed) < 0.6 * relative_l2(exact, near)


# Scaled by activations


def correlated(rows: int, k: int, seed: int) -> np.ndarray:
    """Activations of which one channel in twelve is large, and that have much in common."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((k // 4, k))
    x = random.standard_normal((rows, k // 4)) @ mixing + random.standard_normal((rows, k))
    x[:, ::12] *= 12
    return x.astype(np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_scaling_lowers_the_error_on_other_rows(count: int) -> None:
    model = linear()
    weights = [np.random.default_rng(i).standard_normal((128, 48)) for i in range(count)]
    members = [_with_weight(model, weight) for weight in weights]
    rows, others, layout = correlated(600, 128, 1), correlated(300, 128, 2), Layout()
    by = divisor(rows, members, [layout] * count, {})
    assert by is not None
    assert by.shape == (128,)

    def error(by: np.ndarray | None, weight: np.ndarray) -> float:
        feedback = Feedback(rows, by)
        matrix = Matrix(ir.tensor(weight.astype(np.float32)), False, by)
        made = quantize(
            matrix, layout, lambda part, grid: rounded(part, feedback, grid).astype(np.uint8)
        )
        found = decoded(made, layout, 128) / (1 if by is None else by[:, None])
        return relative_l2(others @ weight, others @ found)

    for weight in weights:
        assert error(by, weight) < 0.95 * error(None, weight)


def _with_weight(model: ir.Model, weight: np.ndarray) -> Product:
    after = model.clone()
    after.graph.initializers["y.weight"].const_value = ir.tensor(weight.astype(np.float32))
    return find_products(after)[0][0]


def test_no_scaling_where_it_gains_nothing() -> None:
    member = find_products(linear())[0][0]
    even = np.random.default_rng(0).uniform(-1, 1, (600, 128)).astype(np.float32)
    assert divisor(even, [member], [Layout()], {}) is None
    large = correlated(600, 128, 1)
    assert divisor(large, [member], [Layout(8)], {}) is None
    assert divisor(large, [member, member], [Layout(8), Layout(4)], {}) is not None
    assert divisor(large * 0, [member], [Layout()], {}) is None


def gated() -> ir.Model:
    """SwiGLU; one channel in twelve of what the gate lets through is large."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 64])
    b.norm("x", "normed", 64)
    for name in ("gate", "up"):
        b.linear("normed", name, 64, 192)
    b.weights = [item for item in b.weights if item.name != "up.weight"]
    matrix = b.random.standard_normal((64, 192)) / 8
    b.constant("up.weight", matrix * np.where(np.arange(192) % 12, 1.0, 12.0))
    b.op("Sigmoid", ["gate"], "share")
    b.op("Mul", ["gate", "share"], "silu")
    b.op("Mul", ["silu", "up"], "inner")
    b.linear("inner", "y", 192, 64)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 64])
    return b.model()


def test_a_gated_product_is_scaled_by_the_one_before(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gated()
    feeds = [
        {"x": np.random.default_rng(seed).standard_normal((8, 100, 64)).astype(np.float32)}
        for seed in (1, 2)
    ]
    observe = Calibration(executor, executor.store(feeds[:1]), real=True)
    memo: dict[Any, Any] = {}

    def quantized() -> tuple[ir.Model, Outcome]:
        after = model.clone()
        context = make_context(last_form, observe=observe, memo=memo)
        return after, WeightOnly().apply(after, context)

    after, outcome = quantized()
    assert outcome.detail == "3 products, 1 scaled, 3 by error feedback"
    assert outcome.hidden == {"up": ("y",)}
    # What takes long is done once.
    with monkeypatch.context() as patch:
        patch.setattr(divisors, "Feedback", None)
        patch.setattr(rewrite, "rounded", None)
        assert identical(quantized()[0], after)
    memo.clear()
    monkeypatch.setattr(divisors, "LEAST_GAIN", np.inf)
    plain, outcome = quantized()
    assert "scaled" not in outcome.detail
    assert [node.op_type for node in after.graph] == [node.op_type for node in plain.graph]
    exact, fine, coarse = (run_model(m, feeds[1:])[0]["y"] for m in (model, after, plain))
    assert relative_l2(exact, fine) < 0.97 * relative_l2(exact, coarse)


def test_each_place_has_an_error_where_scaling_hides_it(executor: Executor) -> None:
    """The search for a budget asks which places lose most."""
    model = gated()
    x = np.random.default_rng(1).standard_normal((8, 100, 64)).astype(np.float32)
    feeds = executor.store([{"x": x}])
    context = make_context(last_form, observe=Calibration(executor, feeds, real=True))
    done = pipeline.run(model, [WeightOnly()], context, Checker(executor, feeds).check)
    errors = done.steps[0].errors
    assert set(errors) == {"gate", "up", "y"}
    assert errors["up"] == errors["y"] > 0


# Left alone


def test_a_second_run_finds_nothing() -> None:
    once, _ = apply(_tied())
    twice, outcome = apply(once)
    assert outcome.rewrites == 0
    assert identical(once, twice)


@pytest.mark.parametrize(
    ("options", "model", "reason"),
    [
        ({"keep": ("y",)}, linear(), "kept in fp32 to stay within the budget"),
        ({}, linear(24, 48), "too small for blocks of 32 (24 x 48)"),
        ({"block": 256}, linear(128, 64), "too small for blocks of 256 (128 x 64)"),
        ({"embeddings": False}, _tied(head=False), "embeddings are kept as asked"),
        ({"block": 128}, _tied(head=False), "its rows of 64 are no blocks of 128"),
    ],
)
def test_refuses(options: dict[str, Any], model: ir.Model, reason: str) -> None:
    _, outcome = apply(model, **options)
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == [reason]


def test_what_is_slower_stays_unless_forced() -> None:
    slower = make_context(lambda key, forms, rule: Choice("fp32", 0.8, True))
    outcome = WeightOnly().apply(linear(), slower)
    assert outcome.rewrites == 0
    assert "not measurably faster (128 x 48, 0.80 times); --force" in outcome.refusals[0].reason
    assert WeightOnly(force=True).apply(linear(), slower).rewrites == 1
