"""What is left where it is, and what is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, ruled, run_model
from onnx import TensorProto
from samples import Builder
from windowed import SIDE, WIDTH, Stage, stage

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.forms import AS_IT_IS
from burnish.optimizer.regions import identical
from burnish.optimizer.tuner import _normal_feed
from burnish.passes.restructure.moves.compose_moves import ComposeMoves


def _operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def _slower(key: str, forms: Any, rule: str) -> Choice:
    return Choice(AS_IT_IS, 0.93, True)


def test_refuses_what_is_measured_slower() -> None:
    model = ir.from_proto(stage(0, 1, flat=True))
    before = model.clone()
    outcome = ComposeMoves().apply(model, make_context(_slower))
    assert outcome.rewrites == 0
    assert {item.reason for item in outcome.refusals} == {
        "one move is not measurably faster (0.93 times)"
    }
    assert identical(before, model)


def test_chains_are_composed_where_an_order_is_measured_slower() -> None:
    """The order of the stream is one choice, each roll with its partition another one."""

    def choose(key: str, forms: Any, rule: str) -> Choice:
        return Choice(AS_IT_IS if "gone" in key else list(forms)[-1], 1.1, True)

    model = ir.from_proto(stage(0, 1, flat=True))
    feeds = made_up(model)
    expected = run_model(model, feeds)
    outcome = ComposeMoves().apply(model, make_context(choose))
    assert outcome.detail == "3 moves composed, 0 gone"
    operators = _operators(model)
    assert operators.count("Gather") == 3
    assert operators.count("Transpose") == 3  # of `x`, and of the block that is not rolled
    for mine, theirs in zip(expected, run_model(model, feeds), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) < 1e-6


def test_rule_takes_long_chains_only() -> None:
    b = Stage()
    b.input("x", TensorProto.FLOAT, ["batch", 8, 4, 8])
    b.op("Transpose", ["x"], "turned", perm=[0, 2, 1, 3])
    b.op("Gather", ["turned", b.sizes(3, 1, 2, 0)], "again", axis=1)
    b.op("Tanh", ["again"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 4, 8, 8])
    model = b.model()
    outcome = ComposeMoves().apply(model, make_context(ruled))
    assert "it stays by rule (not measured)" in [item.reason for item in outcome.refusals]
    assert ComposeMoves().apply(model, make_context(last_form)).rewrites == 1


def test_what_kernels_transpose_fast_is_not_composed_element_by_element() -> None:
    b = Stage()
    b.input("x", TensorProto.FLOAT, ["batch", 8, 16])
    b.op("Transpose", ["x"], "turned", perm=[0, 2, 1])
    b.op("Gather", ["turned", b.sizes(3, 1, 2, 0)], "again", axis=1)
    b.op("Tanh", ["again"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 4, 8])
    outcome = ComposeMoves().apply(b.model(), make_context(last_form))
    assert (outcome.rewrites, outcome.refusals) == (0, ())


def test_moves_that_undo_each_other_go_unmeasured() -> None:
    def choose(key: str, forms: Any, rule: str) -> Choice:
        raise AssertionError(key)

    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8, 4, 2])
    b.op("Transpose", ["x"], "turned", perm=[0, 2, 1, 3])
    b.op("Transpose", ["turned"], "back", perm=[0, 2, 1, 3])
    b.op("Tanh", ["back"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 8, 4, 2])
    model = b.model()
    assert ComposeMoves().apply(model, make_context(choose)).detail == "0 moves composed, 1 gone"
    assert _operators(model) == ["Tanh"]


def _streams(build: Callable[[Stage, str], str]) -> ir.Model:
    """Tokens that go through something on their way into windows."""
    b = Stage()
    b.input("x", TensorProto.FLOAT, ["batch", WIDTH, SIDE * SIDE])
    tokens = b.op("Transpose", ["x"], "tokens", perm=[0, 2, 1])
    tokens = build(b, tokens)
    image = b.shaped(tokens, "image", -1, SIDE, SIDE, WIDTH)
    windows = b.partitioned(image, "windows")
    b.op("Attention", [windows] * 3, "mixed", q_num_heads=2, kv_num_heads=2)
    b.shaped(b.reversed("mixed", "back"), "rows", -1, SIDE * SIDE, WIDTH)
    b.op("Add", ["rows", tokens], "sum")
    b.op("Relu", [b.merged("sum", "merge")], "y")
    b.output("y", TensorProto.FLOAT, ["batch", SIDE * SIDE // 4, 4 * WIDTH])
    return b.model(23)


def _choose_orders(key: str, forms: Any, rule: str) -> Choice:
    return Choice(list(forms)[-1] if "gone" in key else AS_IT_IS, 1.0, False)


def test_order_of_what_only_moves_begin_and_end() -> None:
    model = _streams(lambda b, x: b.op("Neg", [x], "negative"))
    outcome = ComposeMoves().apply(model, make_context(_choose_orders))
    assert outcome.detail == "2 moves composed, 2 gone"


def _over_tokens(b: Stage, x: str) -> str:
    return b.op("Softmax", [x], "shares", axis=1)


def _position(b: Stage, x: str) -> str:
    b.normal("positions", SIDE * SIDE, WIDTH)
    return b.op("Add", [x, "positions"], "placed")


def _given(b: Stage, x: str) -> str:
    b.op("Relu", [x], "hidden")
    b.output("hidden", TensorProto.FLOAT, ["batch", SIDE * SIDE, WIDTH])
    return "hidden"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (_over_tokens, "Softmax computes it"),
        (_position, "Add computes it"),
        (_given, "an output is in it"),
    ],
)
def test_order_stays_where_something_sees_it(
    build: Callable[[Stage, str], str], reason: str
) -> None:
    model = _streams(build)
    before = model.clone()
    outcome = ComposeMoves().apply(model, make_context(_choose_orders))
    assert outcome.rewrites == 0
    assert f"the order of its rows stays: {reason}" in {item.reason for item in outcome.refusals}
    assert identical(before, model)


def test_the_axis_of_the_batch_is_not_moved() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8, 8])
    b.op("Transpose", ["x"], "first", perm=[1, 0, 2])
    b.op("Transpose", ["first"], "second", perm=[2, 0, 1])
    b.op("Tanh", ["second"], "y")
    b.output("y", TensorProto.FLOAT, [8, 8, "batch"])
    outcome = ComposeMoves().apply(b.model(), make_context(last_form))
    assert (outcome.rewrites, outcome.refusals) == (0, ())


def test_sizes_of_an_image_that_are_open_stay() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "rows", 8, 2])
    b.op("Transpose", ["x"], "first", perm=[0, 1, 3, 2])
    b.op("Transpose", ["first"], "second", perm=[0, 2, 1, 3])
    b.op("Tanh", ["second"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 2, "rows", 8])
    outcome = ComposeMoves().apply(b.model(), make_context(last_form))
    assert (outcome.rewrites, outcome.refusals) == (0, ())


def test_a_shape_that_is_read_stays() -> None:
    """Products read the windows without a view where none reads their shape."""
    message = stage(1)
    message.graph.node.append(onnx.helper.make_node("Shape", ["block0.windows"], ["shape"]))
    message.graph.output.append(onnx.helper.make_tensor_value_info("shape", TensorProto.INT64, [3]))
    model = ir.from_proto(message)
    feeds = made_up(model)
    expected = run_model(model, feeds)
    assert ComposeMoves().apply(model, make_context(last_form)).rewrites > 0
    for mine, theirs in zip(expected, run_model(model, feeds), strict=True):
        np.testing.assert_array_equal(mine["shape"], theirs["shape"])
        assert relative_l2(mine["y"], theirs["y"]) < 1e-6


@pytest.mark.parametrize("flat", [False, True])
def test_samples_give_what_is_still_moved(flat: bool) -> None:
    """Each form moves the same elements to somewhere, from inputs of the same sizes."""
    keys = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        keys.append(key)
        messages = {name: build() for name, build in forms.items()}
        feed = _normal_feed(messages[AS_IT_IS])
        for message in messages.values():
            assert {item.name for item in message.graph.input} == set(feed)
            (outputs,) = run_model(ir.from_proto(message), [feed])
            assert outputs
            for array in outputs.values():
                values = sorted(array.reshape(-1))
                assert any(
                    array.size == source.size and values == sorted(source.reshape(-1))
                    for source in feed.values()
                )
        return Choice(list(forms)[-1], 1.0, False)

    assert (
        ComposeMoves().apply(ir.from_proto(stage(0, 1, flat=flat)), make_context(choose)).rewrites
    )
    assert len(set(keys)) == len(keys)
