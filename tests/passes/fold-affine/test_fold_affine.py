"""Scales and shifts that stay where they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Outcome, relative_l2
from burnish.passes.restructure.fold_affine import FoldAffine


def _scaled(b: Builder, factor: Any = 0.5, rank: int = 3) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 4][-rank:])
    b.constant("factor", factor)
    b.linear("x", "q", 4, 4)
    b.op("Mul", ["q", "factor"], "y")
    b.output("y", TensorProto.FLOAT, None)


def _other_reader(b: Builder) -> None:
    _scaled(b)
    b.op("Tanh", ["q"], "seen")
    b.output("seen", TensorProto.FLOAT, None)


def _scores_are_an_output(b: Builder) -> None:
    _scaled(b)
    b.output("q", TensorProto.FLOAT, None)


def _tied(b: Builder) -> None:
    _scaled(b)
    b.op("Tanh", ["q.weight"], "seen")
    b.output("seen", TensorProto.FLOAT, None)


def _infinite(b: Builder) -> None:
    _scaled(b, np.inf)


def _grows(b: Builder) -> None:
    _scaled(b, np.ones((5, 1, 1, 1)) * 2)


def _moved(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("factor", [1, 2, 3, 4])
    b.constant("square", [-1, 4], np.int64)
    b.linear("x", "q", 4, 4)
    b.op("Reshape", ["q", "square"], "moved")
    b.op("Mul", ["moved", "factor"], "y")
    b.output("y", TensorProto.FLOAT, None)


def _residual(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("factor", 3)
    b.op("Mul", ["x", "factor"], "scaled")
    b.linear("scaled", "q", 4, 4)
    b.op("Add", ["q", "scaled"], "y")
    b.output("y", TensorProto.FLOAT, None)


def _nothing_given_away(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("zero", 0)
    b.op("Add", ["x", "zero"], "y")
    b.output("y", TensorProto.FLOAT, None)


def _zeros_that_grow(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("zero", np.zeros((3, 1, 1)))
    b.op("Add", ["x", "zero"], "sum")
    b.op("Tanh", ["sum"], "y")
    b.output("y", TensorProto.FLOAT, None)


REFUSED: dict[Callable[[Builder], None], str] = {
    _other_reader: "what it scales has other readers",
    _scores_are_an_output: "what it scales has other readers",
    _tied: "the weight has other readers, and would be stored twice",
    _infinite: "its factor is not finite",
    _grows: "it may change the shape, as far as the graph says",
    _moved: "its factors differ, and elements move on the way from the product",
    _residual: "what it gives has other readers than products",
    _nothing_given_away: "it does nothing, but gives an output of the graph",
    _zeros_that_grow: "it may change the shape, as far as the graph says",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_refuses(build: Callable[[Builder], None]) -> None:
    b = Builder()
    build(b)
    outcome = FoldAffine().apply(b.model(), make_context())
    assert outcome.rewrites == 0
    assert {item.reason for item in outcome.refusals} == {REFUSED[build]}


def _fold(b: Builder) -> tuple[Outcome, float]:
    """Fold, and the largest error over the outputs."""
    model = b.model()
    original = model.clone()
    outcome = FoldAffine().apply(model, make_context())
    feeds = made_up(original)
    assert feeds
    pairs = zip(run_model(original, feeds), run_model(model, feeds), strict=True)
    return outcome, max(relative_l2(a[name], b[name]) for a, b in pairs for name in a)


def test_a_product_takes_several_scales_in_turn() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    for name, factor in (("before", [1, 2, 3, 4]), ("after", 0.3), ("later", [3, 1, 2, 5])):
        b.constant(name, factor)
    b.op("Mul", ["x", "before"], "wide")
    b.normal("weight", 4, 4)
    b.normal("bias", 4)
    b.op("Gemm", ["wide", "weight", "bias"], "q", transB=1, alpha=0.7, beta=1.5)
    b.op("Div", ["q", "after"], "scaled")
    b.op("Relu", ["scaled"], "active")
    b.linear("active", "r", 4, 4)
    b.op("Mul", ["r", "later"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 4])
    outcome, error = _fold(b)
    assert outcome.rewrites == 3
    assert error < 1e-6


def test_what_cancels_out_goes() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("three", 3)
    b.op("Add", ["x", "three"], "more")
    b.op("Sub", ["more", "three"], "less")
    b.op("Tanh", ["less"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 4])
    outcome, error = _fold(b)
    assert outcome.rewrites == 2
    assert error < 1e-6


def test_a_bias_stays_one_row() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, [3, 4])
    b.linear("x", "q", 4, 4)
    b.normal("places", 3, 4)
    b.op("Add", ["q", "places"], "y")
    b.output("y", TensorProto.FLOAT, [3, 4])
    outcome = FoldAffine().apply(b.model(), make_context())
    assert outcome.rewrites == 0


def _row(b: Builder, widths: list[int], *, bias: bool = True) -> None:
    """Linear layers in a row of these widths."""
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", widths[0]])
    current = "x"
    for index, (width, out) in enumerate(itertools.pairwise(widths)):
        if bias:
            current = b.linear(current, f"layer{index}", width, out)
        else:
            b.normal(f"layer{index}.weight", width, out)
            current = b.op("MatMul", [current, f"layer{index}.weight"], f"layer{index}")
    b.op("Tanh", [current], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", widths[-1]])


@pytest.mark.parametrize("bias", [True, False])
def test_layers_in_a_row_become_one(bias: bool) -> None:
    b = Builder()
    _row(b, [3, 8, 8, 4], bias=bias)
    outcome, error = _fold(b)
    assert outcome.rewrites == 2
    assert error < 1e-5


def test_a_narrow_layer_between_wide_ones_stays() -> None:
    b = Builder()
    _row(b, [16, 2, 16])
    outcome = FoldAffine().apply(b.model(), make_context())
    assert (outcome.rewrites, outcome.refusals) == (0, ())


def test_refuses_layers_in_a_row_with_a_factor() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 2])
    b.normal("wide", 2, 8)
    b.normal("query", 8, 8)
    b.op("Gemm", ["x", "wide"], "hidden", alpha=0.5)
    b.op("MatMul", ["hidden", "query"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 8])
    outcome = FoldAffine().apply(b.model(), make_context())
    assert outcome.rewrites == 0
    reasons = {item.reason for item in outcome.refusals}
    assert reasons == {"a Gemm of the two layers in a row has a factor"}


def test_refuses_what_float16_may_not_hold() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT16, ["batch", 2])
    b.constant("weight", np.ones((2, 2)), np.float16)
    b.constant("tiny", 1e-4, np.float16)
    b.op("MatMul", ["x", "weight"], "q")
    b.op("Mul", ["q", "tiny"], "y")
    b.output("y", TensorProto.FLOAT16, ["batch", 2])
    outcome = FoldAffine().apply(b.model(), make_context())
    assert outcome.rewrites == 0
    reasons = {item.reason for item in outcome.refusals}
    assert reasons == {"float16 may not hold the weight times its factor"}


def test_folds_in_the_branches_of_an_if() -> None:
    inner = Builder(1)
    inner.linear("x", "q", 4, 4)
    inner.constant("third", 1 / 3)
    inner.op("Mul", ["q", "third"], "then_y")
    inner.output("then_y", TensorProto.FLOAT, ["batch", 4])
    other = Builder(2)
    other.op("Neg", ["x"], "else_y")
    other.output("else_y", TensorProto.FLOAT, ["batch", 4])
    branches = {"then_branch": inner, "else_branch": other}
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.constant("yes", True, np.bool_)
    b.op("If", ["yes"], "y", **{name: part.message().graph for name, part in branches.items()})
    b.output("y", TensorProto.FLOAT, ["batch", 4])
    outcome, error = _fold(b)
    assert outcome.rewrites == 1
    assert error < 1e-6
