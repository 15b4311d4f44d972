"""Expansions that stay where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from harness import made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.passes.restructure.hoist_constants import HoistConstants


def _unknown_sizes(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", 1])
    b.input("target", TensorProto.INT64, [2])
    b.op("Expand", ["x", "target"], "wide")
    b.op("Neg", ["wide"], "y")


def _as_large(b: Builder) -> None:
    """The other operand has the rows, but nobody says that they are as many."""
    b.input("x", TensorProto.FLOAT, [1, 4])
    b.input("other", TensorProto.FLOAT, ["rows", 4])
    b.input("like", TensorProto.FLOAT, ["batch", 4])
    b.op("Shape", ["like"], "target")
    b.op("Expand", ["x", "target"], "wide")
    b.op("Add", ["wide", "other"], "y")


REFUSED: dict[Callable[[Builder], None], str] = {
    _unknown_sizes: "its sizes are not known",
    _as_large: "Add may need the size, as far as the graph says",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_refuses(build: Callable[[Builder], None]) -> None:
    b = Builder()
    build(b)
    b.output("y", TensorProto.FLOAT, None)
    outcome = HoistConstants().apply(b.model(), make_context())
    assert outcome.rewrites == 0
    assert {item.reason for item in outcome.refusals} == {REFUSED[build]}


def _shape_of(b: Builder, other: str) -> str:
    return b.op("Shape", [other], "target")


def _through_tanh(b: Builder) -> None:
    """A kernel may give the last elements other bits."""
    b.op("Expand", ["x", _shape_of(b, "like")], "wide")
    b.op("Tanh", ["wide"], "y")


def _added_rank(b: Builder) -> None:
    """The sum of two vectors would be a vector."""
    b.constant("target", [1, 4], np.int64)
    b.normal("four", 4)
    b.normal("vector", 4)
    b.op("Expand", ["vector", "target"], "wide")
    b.op("Add", ["wide", "four"], "sum")
    b.op("Concat", ["sum", "x"], "y", axis=0)


def _looked_up_alone(b: Builder) -> None:
    """Nothing but the expansion makes the rows as many."""
    b.normal("table", 3, 4)
    b.constant("ids", [[0], [1], [2]], np.int64)
    b.constant("target", [3, 5], np.int64)
    b.op("Expand", ["ids", "target"], "wide")
    b.op("Gather", ["table", "wide"], "rows")
    b.op("Add", ["rows", "x"], "y")


def _an_output(b: Builder) -> None:
    b.op("Shape", ["x"], "target")
    b.op("Expand", ["x", "target"], "y")


@pytest.mark.parametrize("build", [_through_tanh, _added_rank, _looked_up_alone, _an_output])
def test_leaves(build: Callable[[Builder], None]) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, [1, 4])
    b.input("like", TensorProto.FLOAT, ["batch", 4])
    build(b)
    b.output("y", TensorProto.FLOAT, None)
    assert HoistConstants().apply(b.model(), make_context()).rewrites == 0


def test_operands_that_are_expanded_alike_stay_together() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, [1, 4])
    b.input("like", TensorProto.FLOAT, ["batch", 4])
    b.normal("other", 1, 4)
    b.op("Shape", ["like"], "target")
    b.op("Expand", ["x", "target"], "wide")
    b.op("Expand", ["other", "target"], "broad")
    b.op("Mul", ["wide", "broad"], "product")
    b.op("Neg", ["product"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 4])
    model = b.model()
    original = model.clone()
    outcome = HoistConstants().apply(model, make_context())
    assert outcome.detail == "1 expansions dropped, 2 moved"
    assert [node.op_type for node in model.graph] == ["Shape", "Mul", "Neg", "Expand"]
    feeds = made_up(original)
    for mine, theirs in zip(run_model(original, feeds), run_model(model, feeds), strict=True):
        assert np.array_equal(mine["y"], theirs["y"])
