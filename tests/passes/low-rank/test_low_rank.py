"""Products in two: what is lost, what directions count, and what stays whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, ruled, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Feeds, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.passes.compress.low_rank.factors import factors
from burnish.passes.compress.low_rank.low_rank import LowRank

K, N, RANK = 128, 160, 24
RANDOM = np.random.default_rng(0)


def low(k: int = K, n: int = N, noise: float = 0.0) -> np.ndarray:
    """A weight of a low rank and, for that share of its norm, of a full one."""
    weight = RANDOM.standard_normal((k, RANK)) @ RANDOM.standard_normal((RANK, n)) / RANK**0.5
    return (weight + noise * RANDOM.standard_normal((k, n))).astype(np.float32)


def product(weight: np.ndarray, *, gemm: bool = False) -> ir.Model:
    k, n = weight.shape
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", k])
    b.constant("w", weight.T if gemm else weight)
    b.normal("bias", n)
    if gemm:
        b.op("Gemm", ["x", "w", "bias"], "y", transB=1, alpha=0.5, beta=2.0)
    else:
        b.op("MatMul", ["x", "w"], "product")
        b.op("Add", ["product", "bias"], "y")
    b.output("y", TensorProto.FLOAT, ["rows", n])
    return b.model()


def error(before: ir.Model, after: ir.Model, feeds: list[Feeds] | None = None) -> float:
    feeds = feeds or made_up(before)
    pairs = zip(run_model(before, feeds), run_model(after, feeds), strict=True)
    return max(relative_l2(mine["y"], theirs["y"]) for mine, theirs in pairs)


def apply(model: ir.Model, choose: Any = last_form, **options: Any) -> Outcome:
    return LowRank(**options).apply(model, make_context(choose))


@pytest.mark.parametrize("gemm", [False, True], ids=["matmul", "gemm"])
@pytest.mark.parametrize("shape", [(K, N), (N, K)])
def test_what_is_of_low_rank_loses_nothing(shape: tuple[int, int], gemm: bool) -> None:
    model = product(low(*shape), gemm=gemm)
    before = model.clone()
    outcome = apply(model, error=1e-4)
    assert outcome.detail == f"1 products in two, of ranks {RANK} to {RANK}"
    assert [(item.k, item.n) for item in find_products(model)[0]] == [
        (shape[0], RANK),
        (RANK, shape[1]),
    ]
    assert error(before, model) < 1e-5
    assert apply(model, error=1e-4).rewrites == 0


def test_no_more_is_lost_than_allowed() -> None:
    weight = low(noise=0.1)
    ranks = []
    for allowed in (0.09, 0.2, 0.5):
        found = factors(weight, None, allowed, K)
        assert relative_l2(weight, found.left @ found.right) == pytest.approx(found.error, abs=1e-5)
        assert found.error <= allowed
        ranks.append(found.rank)
    assert ranks == sorted(ranks, reverse=True)
    assert all(rank % 16 == 0 for rank in ranks)


def test_directions_that_rows_never_take_do_not_count() -> None:
    weight = RANDOM.standard_normal((K, N)).astype(np.float32)
    spread = RANDOM.standard_normal((RANK, K))
    rows = (RANDOM.standard_normal((1024, RANK)) @ spread).astype(np.float32)
    found = factors(weight, rows, 0.01, K)
    assert found.rank == 32
    assert relative_l2(rows @ weight, rows @ found.left @ found.right) < 0.01
    assert factors(weight, None, 0.01, K).rank > 100


def test_the_data_of_the_user_says_which_directions_count(executor: Executor) -> None:
    model = product(RANDOM.standard_normal((K, N)).astype(np.float32))
    before = model.clone()
    spread = RANDOM.standard_normal((RANK, K))
    feeds: list[Feeds] = [
        {"x": (RANDOM.standard_normal((64, RANK)) @ spread).astype(np.float32)} for _ in range(8)
    ]
    for real in (False, True):
        observe = Calibration(executor, executor.store(feeds), real=real)
        outcome = LowRank(error=0.01).apply(model, make_context(last_form, observe=observe))
        assert outcome.rewrites == real
    assert error(before, model, feeds) < 0.02


def lookup(table: np.ndarray, tied: bool = False) -> ir.Model:
    b = Builder()
    b.input("ids", TensorProto.INT64, ["batch", "length"])
    b.constant("table", table)
    b.op("Gather", ["table", "ids"], "rows")
    b.output("rows", TensorProto.FLOAT, ["batch", "length", table.shape[1]])
    if tied:
        b.op("Transpose", ["table"], "turned", perm=[1, 0])
        b.op("MatMul", ["rows", "turned"], "scores")
        b.output("scores", TensorProto.FLOAT, ["batch", "length", len(table)])
    return b.model()


def looked_up(model: ir.Model, ids: np.ndarray) -> np.ndarray:
    return run_model(model, [{"ids": ids}])[0]["rows"]


def size(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values())


def test_a_table_of_low_rank_is_smaller() -> None:
    model = lookup(low(500, 64))
    before, ids = model.clone(), np.arange(500)[None]
    assert apply(model.clone(), error=1e-4).rewrites == 0
    outcome = apply(model, error=1e-4, tables=True)
    assert outcome.detail == "a table of 500 x 64 in rows of 32"
    assert size(model) == 4 * 32 * (500 + 64) and size(before) == 4 * 500 * 64
    assert relative_l2(looked_up(before, ids), looked_up(model, ids)) < 1e-5


def test_rows_that_occur_and_those_that_do_not_keep_to_the_error(executor: Executor) -> None:
    """Rows that are small count where they occur, and those that never do count as well."""
    table = low(400, 64)
    table[:20] = 0.01 * RANDOM.standard_normal((20, 64))
    ids = RANDOM.integers(0, 20, (8, 16))
    model, blind = lookup(table), lookup(table)
    before = model.clone()
    observe = Calibration(executor, executor.store([{"ids": ids}] * 2), real=True)
    LowRank(error=0.3, tables=True).apply(model, make_context(last_form, observe=observe))
    apply(blind, error=0.3, tables=True)
    for rows in (np.arange(20)[None], np.arange(20, 400)[None]):
        assert relative_l2(looked_up(before, rows), looked_up(model, rows)) <= 0.3
    assert relative_l2(looked_up(before, ids), looked_up(blind, ids)) > 0.3
    assert size(blind) <= size(model) < size(before)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            lookup(RANDOM.standard_normal((500, 64)).astype(np.float32)),
            "a table of 500 x 64 needs rank 64 to lose at most 0.1, and is smaller in two up to 42",
        ),
        (lookup(low(500, 64), tied=True), "its table has other readers"),
    ],
    ids=["full", "tied"],
)
def test_refuses_tables(model: ir.Model, reason: str) -> None:
    outcome = apply(model, tables=True, keep=("scores",))
    assert outcome.rewrites == 0
    assert reason in {refusal.reason for refusal in outcome.refusals}


def test_refuses_a_full_rank() -> None:
    outcome = apply(product(RANDOM.standard_normal((K, N)).astype(np.float32)))
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert refusal.reason.startswith("128 x 160 needs rank ")
    assert refusal.reason.endswith("to lose at most 0.1, and two products multiply less up to 71")


def test_finer_places_lose_less() -> None:
    coarse, fine = (product(low(noise=0.1)) for _ in range(2))
    assert apply(coarse, error=0.2).rewrites == 1
    outcome = apply(fine, finer=("y",), finer_error=0.12)
    assert outcome.rewrites == 1
    ranks = [find_products(model)[0][0].n for model in (coarse, fine)]
    assert ranks[0] <= ranks[1]
    assert apply(product(low(noise=0.15)), finer=("y",)).rewrites == 0


@pytest.mark.parametrize(("rank", "rewrites"), [(RANK, 1), (64, 0)])
def test_rule(rank: int, rewrites: int) -> None:
    """Two products have to multiply a quarter less."""
    left, right = RANDOM.standard_normal((K, rank)), RANDOM.standard_normal((rank, N))
    model = product((left @ right).astype(np.float32))
    outcome = apply(model, ruled, error=1e-4)
    assert outcome.rewrites == rewrites
    if not rewrites:
        (refusal,) = outcome.refusals
        assert refusal.reason == "two products of rank 64 are not measurably faster (not measured)"


def test_refuses_what_is_not_measured_faster() -> None:
    outcome = apply(product(low()), lambda key, forms, rule: Choice("fp32", 0.9, True))
    assert [item.reason for item in outcome.refusals] == [
        f"two products of rank {RANK} are not measurably faster (0.90 times)"
    ]


def test_refuses_what_is_kept_small_or_shared() -> None:
    assert reasons(apply(product(low()), keep=("y",))) == {"kept in fp32 to stay within the budget"}
    assert reasons(apply(product(low(16, 16)))) == {"too small for two products (16 x 16)"}
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", K])
    b.constant("w", low(K, K))
    b.op("MatMul", ["x", "w"], "first")
    b.op("MatMul", ["first", "w"], "y")
    b.output("y", TensorProto.FLOAT, ["rows", K])
    assert reasons(apply(b.model())) == {"its weight has other readers"}


def reasons(outcome: Outcome) -> set[str]:
    return {item.reason for item in outcome.refusals}


def test_factors_are_found_once() -> None:
    context = make_context(last_form)
    model = product(low())
    for _ in range(2):
        assert LowRank().apply(model.clone(), context).rewrites == 1
    assert len(context.memo) == 1
