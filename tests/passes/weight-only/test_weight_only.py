"""Weights in blocks: what they stand for, what is shared, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import identical
from burnish.optimizer.report import least_runtime
from burnish.passes.compress.blockwise import blocks
from burnish.passes.compress.blockwise.blocks import Layout, Matrix, quantize
from burnish.passes.compress.blockwise.weight_only import WeightOnly

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


def test_parts_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = ir.tensor(np.random.default_rng(0).standard_normal((96, 50)).astype(np.float32))
    whole = quantize(Matrix(matrix, False), Layout())
    monkeypatch.setattr(blocks, "ELEMENTS", 96 * 7)
    parts = quantize(Matrix(matrix, False), Layout())
    np.testing.assert_array_equal(whole.codes.numpy(), parts.codes.numpy())
    np.testing.assert_array_equal(whole.scales, parts.scales)


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
