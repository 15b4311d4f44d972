"""Weights with structure: every form gives the same, and what has none stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import choosing, last_form, made_up, make_context, ruled, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.passes.restructure.sparse import structure
from burnish.passes.restructure.sparse.sparse_weights import SparseWeights
from burnish.passes.restructure.sparse.structure import (
    Block,
    by_support,
    components,
    dead,
    fewer,
    kronecker,
    without_zeros,
)

K, N = 64, 96
RANDOM = np.random.default_rng(0)


def dense(k: int = K, n: int = N) -> np.ndarray:
    return RANDOM.standard_normal((k, n)).astype(np.float32)


def diagonal(count: int = 4) -> np.ndarray:
    weight = dense()
    mask = np.kron(np.eye(count), np.ones((K // count, N // count)))
    return (weight * mask).astype(np.float32)


def scattered() -> np.ndarray:
    return diagonal()[RANDOM.permutation(K)][:, RANDOM.permutation(N)]


def tiled() -> np.ndarray:
    weight = dense()
    weight[16:48, 16:64] = 0
    weight[:, 80:] = 0
    return weight


def without_columns() -> np.ndarray:
    weight = dense()
    weight[:, 10:50] = 0
    return weight


def without_rows() -> np.ndarray:
    weight = dense()
    weight[RANDOM.permutation(K)[:20]] = 0
    return weight


def product(weight: np.ndarray, *, gemm: bool = False, opset: int = 17) -> ir.Model:
    k, n = weight.shape
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", k] if gemm else ["batch", "sequence", k])
    b.constant("w", weight.T if gemm else weight)
    b.normal("bias", n)
    if gemm:
        b.op("Gemm", ["x", "w", "bias"], "y", transB=1, alpha=0.5, beta=2.0)
    else:
        b.op("MatMul", ["x", "w"], "product")
        b.op("Add", ["product", "bias"], "y")
    b.output("y", TensorProto.FLOAT, ["rows", n] if gemm else ["batch", "sequence", n])
    return b.model(opset)


def applied(model: ir.Model, choose: Any = last_form) -> Outcome:
    """The outcome of the pass; what the model gives stays, and a second run does nothing."""
    before = model.clone()
    outcome = SparseWeights().apply(model, make_context(choose))
    feeds = made_up(before)
    pairs = zip(run_model(before, feeds), run_model(model, feeds), strict=True)
    assert max(relative_l2(mine["y"], theirs["y"]) for mine, theirs in pairs) < 1e-6
    assert SparseWeights().apply(model, make_context(choose)).rewrites == 0
    return outcome


def reasons(outcome: Outcome) -> list[str]:
    return [item.reason for item in outcome.refusals]


FORMS = [
    (diagonal(), "2 blocks"),
    (diagonal(), "4 blocks"),
    (diagonal(), "4 blocks in one product"),
    (scattered(), "2 blocks"),
    (scattered(), "4 blocks"),
    (scattered(), "4 blocks in one product"),
    (tiled(), "2 blocks"),
    (without_columns(), "1 block"),
    (without_rows(), "1 block"),
    (np.kron(dense(8, 6), dense(8, 16)), "two products of 8 x 6 and 8 x 16"),
    (np.kron(dense(8, 6), dense(8, 16)), "two products of 8 x 6 and 8 x 16, transposed"),
    (np.kron(np.eye(4), dense(16, 24)), "one product of 16 x 24 for each of 4 parts"),
]


@pytest.mark.parametrize("gemm", [False, True], ids=["matmul", "gemm"])
@pytest.mark.parametrize(("weight", "form"), FORMS)
def test_forms_give_the_same(weight: np.ndarray, form: str, gemm: bool) -> None:
    outcome = applied(product(weight.astype(np.float32), gemm=gemm), choosing(form))
    assert outcome.rewrites >= 1
    assert f"as {form}" in outcome.detail


def test_the_number_of_axes_is_not_known() -> None:
    """Then zeros cannot be put beside a result, and one column of a block is of zeros."""
    model = product(without_columns())
    model.graph.inputs[0].shape = None
    before = model.clone()
    outcome = SparseWeights().apply(model, make_context(last_form))
    assert outcome.rewrites == 1
    assert "Pad" not in {node.op_type for node in model.graph}
    feed = [{"x": dense(3, K)}]
    (mine,), (theirs,) = run_model(before, feed), run_model(model, feed)
    assert relative_l2(mine["y"], theirs["y"]) < 1e-6


def test_refuses_zeros_without_blocks() -> None:
    outcome = applied(product(dense() * (RANDOM.random((K, N)) < 0.1)))
    assert outcome.rewrites == 0
    assert reasons(outcome) == ["its zeros are in no blocks (90% of it)"]


def test_refuses_what_is_not_measured_faster() -> None:
    outcome = applied(product(diagonal()), lambda key, forms, rule: Choice("whole", 0.8, True))
    assert reasons(outcome) == ["without its zeros it is not measurably faster (0.80 times)"]


@pytest.mark.parametrize(("weight", "rewrites"), [(diagonal(), 1), (scattered(), 0)])
def test_rule(weight: np.ndarray, rewrites: int) -> None:
    assert applied(product(weight), ruled).rewrites == rewrites


def test_refuses_a_weight_with_other_readers() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", K])
    b.constant("w", diagonal())
    b.op("MatMul", ["x", "w"], "first")
    b.op("MatMul", ["first_again", "w"], "second")
    b.nodes.insert(1, b.nodes.pop())
    b.op("Tanh", ["x"], "first_again")
    b.nodes.insert(0, b.nodes.pop())
    b.op("Add", ["first", "second"], "y")
    b.output("y", TensorProto.FLOAT, ["rows", N])
    outcome = applied(b.model())
    assert set(reasons(outcome)) == {"its weight has other readers, and would be stored twice"}


def test_dense_weights_and_old_operator_sets_stay() -> None:
    assert applied(product(dense())) == Outcome()
    assert applied(product(diagonal(), opset=12)) == Outcome()


HIDDEN = 128


def layers(
    activation: str = "Relu",
    up: slice = slice(0, 40),
    down: slice = slice(100, 128),
    *,
    gate: bool = False,
    bias: bool = True,
    seen: bool = False,
) -> ir.Model:
    """Two layers with columns and rows of zeros."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", K])
    first, second = dense(K, HIDDEN), dense(HIDDEN, K)
    first[:, up], second[down] = 0, 0
    b.constant("up", first)
    b.constant("down", second)
    b.normal("shift", HIDDEN)
    b.op("MatMul", ["x", "up"], "product")
    b.op("Add", ["product", "shift"], "shifted")
    hidden = b.op(activation, ["shifted"], "hidden")
    if gate:
        b.constant("factor", np.arange(HIDDEN))
        b.op("Mul", [b.linear("x", "gate", K, HIDDEN), "factor"], "scaled")
        hidden = b.op("Mul", ["hidden", "scaled"], "gated")
    b.op("MatMul", [hidden, "down"], "result")
    b.normal("bias", K)
    b.op(*(("Add", ["result", "bias"]) if bias else ("Identity", ["result"])), "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", K])
    if seen:
        b.output("hidden", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    return b.model(20)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["Relu", "Gelu", "Sigmoid", "Exp"])
def test_channels_are_cut_on_both_sides(activation: str, bias: bool) -> None:
    """Those that are constant give their share to the bias, which may not have been there."""
    model = layers(activation, bias=bias)
    outcome = applied(model, choosing("cut"))
    assert outcome.detail == "1 as 1 + 1 narrower layers, 64 channels cut"
    widths = [value.const_value.shape for value in model.graph.initializers.values()]
    assert (K, 64) in [tuple(shape) for shape in widths]


def test_a_layer_between_two_others_is_cut_on_both_sides() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", K])
    value = "x"
    for index, (k, n) in enumerate([(K, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, K)]):
        weight = dense(k, n)
        weight[:, : 32 if index < 2 else 0] = 0
        b.constant(f"w{index}", weight)
        b.op("MatMul", [value, f"w{index}"], f"p{index}")
        value = b.op("Sigmoid", [f"p{index}"], f"h{index}" if index < 2 else "y")
    b.output("y", TensorProto.FLOAT, ["rows", K])
    outcome = applied(b.model(), choosing("cut"))
    assert outcome.detail == "2 as 1 + 1 narrower layers, 64 channels cut"


def test_a_gate_makes_only_zeros_constant() -> None:
    """Behind a ReLU a channel of a negative bias is 0 times whatever the other layer gives."""
    model = layers("Relu", slice(0, 96), slice(0, 0), gate=True)
    negative = int((model.graph.initializers["shift"].const_value.numpy()[:96] < 0).sum())
    outcome = applied(model, choosing("cut"))
    assert outcome.detail == f"1 as 2 + 1 narrower layers, {negative // 16 * 16} channels cut"


def test_channels_that_somebody_sees_stay() -> None:
    assert applied(layers(seen=True), choosing("cut")).rewrites == 0


def test_fewer_channels_than_a_step_stay() -> None:
    assert applied(layers(up=slice(0, 8), down=slice(120, 127)), choosing("cut")).rewrites == 0


def test_narrower_layers_are_chosen_by_measuring() -> None:
    outcome = applied(layers(), lambda key, forms, rule: Choice("whole", 1.0, True))
    assert "without its zeros it is not measurably faster (1.00 times)" in reasons(outcome)
    assert outcome.rewrites == 0


def test_components_hide_behind_no_order() -> None:
    rows, columns = RANDOM.permutation(K), RANDOM.permutation(N)
    blocks = components(diagonal()[rows][:, columns] != 0)
    assert sorted(len(block.rows) for block in blocks) == [16] * 4
    for block in blocks:
        assert len({row // 16 for row in rows[block.rows]}) == 1
        assert len({column // 24 for column in columns[block.columns]}) == 1


def test_too_many_components_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MOST_BLOCKS", 3)
    (block,) = components(diagonal() != 0)
    assert block.work == K * N


def test_joined_blocks_hold_all_of_them() -> None:
    mask = np.kron(RANDOM.random((6, 8)) < 0.4, np.ones((16, 16))).astype(bool)
    blocks = by_support(mask)
    for most in (1, 2, 4):
        covered = np.zeros_like(mask)
        joined = fewer(blocks, most)
        assert len(joined) <= most
        for block in joined:
            covered[np.ix_(block.rows, block.columns)] = True
        assert (covered | ~mask).all()
    assert sum(len(block.columns) for block in blocks) == mask.any(0).sum()
    assert Block(np.arange(2), np.arange(3)).work == 6


def test_what_is_nearly_a_kronecker_product_is_none() -> None:
    weight = np.kron(dense(8, 6), dense(8, 16)).astype(np.float32)
    found = kronecker(weight)
    assert found is not None
    assert found.left.shape == (8, 6)
    weight[5, 7] += 0.01
    assert kronecker(weight) is None
    assert kronecker(dense()) is None
    assert kronecker(np.zeros((16, 16), np.float32)) is None


@pytest.mark.parametrize("turned", [False, True])
def test_a_few_rows_show_that_a_weight_is_dense(turned: bool) -> None:
    weight = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    assert without_zeros(weight.T if turned else weight)
    for zeros in (np.s_[:, 7], np.s_[: 300 // 8], np.s_[40:80, 40:80]):
        cut = weight.copy()
        cut[zeros] = 0
        assert not without_zeros(cut.T if turned else cut)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_dead_rows_and_columns_are_found(axis: int, turned: bool) -> None:
    weight = np.random.default_rng(0).standard_normal((70, 50)).astype(np.float32)
    weight[:20, 3] = weight[3, :20] = 0  # zeros at the beginning only
    weight[:, [7, 49]] = weight[[0, 30], :] = 0
    matrix = weight.T if turned else weight
    np.testing.assert_array_equal(dead(matrix, axis), ~matrix.any(axis))
