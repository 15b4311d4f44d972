"""Chains of nodes that move elements: what is found is what ONNX Runtime does, for any batch."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
from harness import run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.analysis.movement import Moves, identity, inverted, rows_of, strides, width
from burnish.optimizer.analysis.movement.places import spread
from burnish.optimizer.analysis.repeated import repeated
from burnish.optimizer.analysis.sizes import Sizes


def _moved(b: Builder, random: np.random.Generator, x: str, shape: list[int]) -> list[int]:
    """Write one more node that moves; the sizes of what it gives, the batch's factor first."""
    name, rank = f"{x}+", len(shape)
    kind = random.choice(["reshape", "transpose", "roll", "slice", "gather", "split"])
    axis = int(random.integers(1, rank))
    size = shape[axis]
    if kind == "reshape":
        factor = next((item for item in (3, 2) if size % item == 0), 1)
        result = [*shape[:axis], factor, size // factor, *shape[axis + 1 :]]
        if random.random() < 0.3:  # windows join the axis of the batch
            result = [result[0] * result[1], *result[2:]]
        b.constant(f"{name}.sizes", [-1, *result[1:]], np.int64)
        b.op("Reshape", [x, f"{name}.sizes"], name)
        return result
    if kind == "transpose":
        order = [0, *(1 + random.permutation(rank - 1)).tolist()]
        b.op("Transpose", [x], name, perm=order)
        return [shape[item] for item in order]
    if kind == "gather":
        b.constant(f"{name}.places", random.integers(-size, size, 2 * size), np.int64)
        b.op("Gather", [x, f"{name}.places"], name, axis=axis)
        return [*shape[:axis], 2 * size, *shape[axis + 1 :]]
    if kind == "slice":
        for part, numbers in (("start", -1), ("end", -(1 << 40)), ("axis", axis), ("step", -1)):
            b.constant(f"{name}.{part}", [numbers], np.int64)
        b.op("Slice", [x, *(f"{name}.{part}" for part in ("start", "end", "axis", "step"))], name)
        return shape
    cut = int(random.integers(1, size)) if size > 1 else 0
    if not cut:
        b.op("Identity", [x], name)
        return shape
    b.constant(f"{name}.cut", [cut, size - cut], np.int64)
    b.op("Identity", [x], f"{name}.x")
    node = b.nodes[-1]
    node.op_type = "Split"
    node.input.append(f"{name}.cut")
    node.output[:] = [f"{name}.0", f"{name}.1"]
    node.attribute.add(name="axis", i=axis, type=2)
    if kind == "split":
        b.op("Identity", [f"{name}.1"], name)
        return [*shape[:axis], size - cut, *shape[axis + 1 :]]
    b.op("Concat", [f"{name}.1", f"{name}.0"], name, axis=axis)
    return shape


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_is_one_map(seed: int) -> None:
    random, b, shape = np.random.default_rng(seed), Builder(), [1, 6, 4, 3]
    x = b.input("x", TensorProto.FLOAT, ["batch", 6, 4, 3])
    for _ in range(7):
        shape = _moved(b, random, x, shape)
        x += "+"
    b.op("Identity", [x], "y")
    b.output("y", TensorProto.FLOAT, [None] * len(shape))  # type: ignore[list-item]
    model = b.model(17)
    move = Moves(Sizes.of(model), model.graph).of(model.graph.outputs[0])
    assert move is not None
    assert move.source is model.graph.inputs[0]
    for batch in (1, 3):
        feed = random.standard_normal((batch, 6, 4, 3)).astype(np.float32)
        (result,) = run_model(model, [{"x": feed}])
        expected = feed.reshape(batch, -1)[:, move.places].reshape(result["y"].shape)
        np.testing.assert_array_equal(result["y"], expected)


def test_places_of_a_partition_into_windows() -> None:
    whole = np.arange(4 * 4 * 3, dtype=np.int32)
    places = whole.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(-1)
    assert width(places, 48) == 6
    rows = rows_of(places, 6)
    assert strides(rows) == [(2, 4), (2, 1), (2, 2)]
    back = inverted(places, 48)
    assert back is not None
    assert identity(places[back], 48)
    np.testing.assert_array_equal(spread(rows, 6), places)


def test_places_of_a_roll_are_no_transpose() -> None:
    assert strides(np.roll(np.arange(6, dtype=np.int32), 2)) is None
    assert strides(np.array([0, 2, 4, 1, 3, 5], np.int32)) == [(2, 1), (3, 2)]
    assert strides(np.array([0, 2, 4], np.int32)) is None


def test_places_that_repeat_have_no_way_back() -> None:
    assert inverted(np.array([0, 0, 1], np.int32), 3) is None
    assert inverted(np.array([0, 1], np.int32), 3) is None


def _mask(b: Builder, target: list[int]) -> None:
    """The mask of 4 windows for each image, added to a table by heads."""
    b.input("x", TensorProto.FLOAT, ["batch", 4, 2])
    b.normal("windows", 1, 4, 1, 3, 3)
    b.normal("table", 1, 2, 3, 3)
    b.op("Shape", ["x"], "images", start=0, end=1)
    b.constant("rest", target, np.int64)
    b.op("Concat", ["images", "rest"], "target", axis=0)
    b.op("Expand", ["windows", "target"], "wide")
    b.constant("flat", [-1, 1, 3, 3], np.int64)
    b.op("Reshape", ["wide", "flat"], "each")
    b.constant("least", -1.0)
    b.op("Max", ["each", "least"], "bounded")
    b.op("Add", ["table", "bounded"], "y")
    b.output("y", TensorProto.FLOAT, ["images", 2, 3, 3])


def test_a_mask_is_repeated_for_each_image() -> None:
    b = Builder()
    _mask(b, [4, 1, 3, 3])
    model = b.model()
    found = repeated(model.graph.outputs[0], Sizes.of(model))
    assert found is not None
    assert found.slabs.open
    assert found.array.shape == (4, 2, 3, 3)
    for batch in (1, 3):
        (result,) = run_model(model, [{"x": np.ones((batch, 4, 2), np.float32)}])
        np.testing.assert_array_equal(result["y"], np.tile(found.array, (batch, 1, 1, 1)))


def test_what_an_input_decides_is_not_repeated() -> None:
    b = Builder()
    _mask(b, [4, 1, 3, 3])
    b.op("ReduceSum", ["x"], "number", keepdims=0)
    b.op("Add", ["y", "number"], "z")
    b.output("z", TensorProto.FLOAT, ["images", 2, 3, 3])
    model = b.model()
    assert repeated(model.graph.outputs[1], Sizes.of(model)) is None


def test_rows_of_a_table_for_each_image_are_not_repeated() -> None:
    """A constant with as many rows as there are images happens to fit, for that many."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 2])
    b.normal("one", 1, 2)
    b.normal("two", 2, 2)
    b.op("Shape", ["x"], "target")
    b.op("Expand", ["one", "target"], "wide")
    b.op("Add", ["wide", "two"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 2])
    model = b.model()
    wide = next(node.outputs[0] for node in model.graph if node.op_type == "Expand")
    assert repeated(wide, Sizes.of(model)) is not None
    assert math.prod(repeated(wide, Sizes.of(model)).slabs.shape) == 2  # type: ignore[union-attr]
    assert repeated(model.graph.outputs[0], Sizes.of(model)) is None


def test_moves_of_values_without_sizes_are_not_known() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "rows", 4])
    b.op("Transpose", ["x"], "y", perm=[0, 2, 1])
    b.output("y", TensorProto.FLOAT, ["batch", 4, "rows"])
    model = b.model()
    assert Moves(Sizes.of(model), model.graph).of(model.graph.outputs[0]) is None


def test_a_model_is_left_as_it_is() -> None:
    b = Builder()
    _mask(b, [4, 1, 3, 3])
    model = b.model()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    repeated(model.graph.outputs[0], Sizes.of(model))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
