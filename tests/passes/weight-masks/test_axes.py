"""Where the zeros of 2:4 lie: as `trtexec --sparsity=force` puts them, however a weight is stored.

TensorRT adds up over k of a matrix product, and over the channels of a convolution at each place
of its window; of four that follow each other there two are zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from onnx import TensorProto, helper
from samples import Builder

from burnish.optimizer.contract import Outcome
from burnish.passes.compress.masks.weight_masks import WeightMasks

K, N = 16, 12
RANDOM = np.random.default_rng(0)


def apply(model: ir.Model, sparsity: str = "2:4", **options: str) -> Outcome:
    return WeightMasks(sparsity, options.get("method", "magnitude")).apply(model, make_context())


def weight_of(model: ir.Model) -> np.ndarray:
    return np.asarray(model.graph.initializers["w"].const_value.numpy())  # type: ignore[union-attr]


def as_it_should_be(weight: np.ndarray, axis: int) -> np.ndarray:
    """The two largest of each four along an axis."""
    moved = np.moveaxis(weight, axis, -1)
    fours = moved.reshape(*moved.shape[:-1], -1, 4).copy()
    np.put_along_axis(fours, np.argsort(np.abs(fours), axis=-1)[..., :2], 0.0, axis=-1)
    return np.moveaxis(fours.reshape(moved.shape), -1, axis)


def product(operator: str, shape: tuple[int, int], **attributes: int) -> ir.Model:
    """A product that gives no output by itself."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, [3, K])
    b.constant("w", RANDOM.standard_normal(shape).astype(np.float32))
    b.op(operator, ["x", "w"], "seen", **attributes)
    b.op("Tanh", ["seen"], "y")
    b.output("y", TensorProto.FLOAT, [3, N])
    return b.model()


@pytest.mark.parametrize(
    ("operator", "shape", "attributes", "axis"),
    [
        ("MatMul", (K, N), {}, 0),
        ("Gemm", (K, N), {}, 0),
        ("Gemm", (N, K), {"transB": 1}, 1),
    ],
)
def test_products(
    operator: str, shape: tuple[int, int], attributes: dict[str, int], axis: int
) -> None:
    model = product(operator, shape, **attributes)
    before = weight_of(model)
    assert apply(model).rewrites == 1
    np.testing.assert_array_equal(weight_of(model), as_it_should_be(before, axis))


def test_merged_queries_keys_and_values() -> None:
    """Columns of one weight for several layers: each has its own zeros, along k."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, [3, K])
    b.constant("w", RANDOM.standard_normal((K, 3 * N)).astype(np.float32))
    b.constant("sizes", np.full(3, N), np.int64)
    b.op("MatMul", ["x", "w"], "merged")
    b.nodes.append(helper.make_node("Split", ["merged", "sizes"], ["q", "k", "v"], axis=1))
    b.op("Sum", ["q", "k", "v"], "y")
    b.output("y", TensorProto.FLOAT, [3, N])
    model = b.model()
    parts = np.split(weight_of(model), 3, axis=1)
    assert apply(model).rewrites == 1
    for before, after in zip(parts, np.split(weight_of(model), 3, axis=1), strict=True):
        np.testing.assert_array_equal(after, as_it_should_be(before, 0))


def convolution(channels: int, window: tuple[int, ...] = (3, 2)) -> ir.Model:
    """One that gives no output by itself."""
    sides = [9] * len(window)
    b = Builder()
    b.input("x", TensorProto.FLOAT, [1, channels, *sides])
    b.constant("w", RANDOM.standard_normal((5, channels, *window)).astype(np.float32))
    b.op("Conv", ["x", "w"], "seen")
    b.op("Tanh", ["seen"], "y")
    ends = [side - size + 1 for side, size in zip(sides, window, strict=True)]
    b.output("y", TensorProto.FLOAT, [1, 5, *ends])
    return b.model()


@pytest.mark.parametrize("window", [(3, 2), (3,), (1, 1)])
def test_convolutions(window: tuple[int, ...]) -> None:
    model = convolution(8, window)
    before = weight_of(model)
    outcome = apply(model)
    assert outcome.rewrites == 1
    np.testing.assert_array_equal(weight_of(model), as_it_should_be(before, 1))
    feed = {"x": np.ones(model.graph.inputs[0].shape.numpy(), np.float32)}  # type: ignore[union-attr]
    assert np.isfinite(run_model(model, [feed])[0]["y"]).all()


def test_patches_of_images_have_three_channels() -> None:
    outcome = apply(convolution(3))
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == ["its 3 channels are no groups of 4"]
    model = convolution(3)
    assert apply(model, "0.5").rewrites == 1
    assert (weight_of(model) == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_what_convolutions_multiply_is_not_looked_at() -> None:
    outcome = apply(convolution(8), method="wanda")
    assert outcome.rewrites == 0
    reasons = [item.reason for item in outcome.refusals]
    assert reasons == ["it is a convolution, which only --mask magnitude takes"]
