"""A model on its way over feeds, with stops where weights change."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import run_model
from samples import parse

from burnish.optimizer.activations import Activations, Course
from burnish.optimizer.executor import Executor

# The weight's transpose stands first, as some exporters and sorts have it.
GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
course (float[b, 2] x) => (float[b, 2] y, float[b, 2] early)
<float[2, 2] v = {1, -2, 3, 4}, float[2, 2] w = {1, 2, 3, 4}>
{
  t = Transpose <perm = [1, 0]> (w)
  early = Tanh (x)
  a = MatMul (x, v)
  h = Relu (a)
  p = MatMul (h, t)
  y = Sigmoid (p)
}
"""
FEEDS = [
    {"x": np.random.default_rng(seed).standard_normal((3, 2)).astype(np.float32)}
    for seed in range(2)
]
OTHER = np.array([[0.5, -1], [2, 1]], np.float32)


@pytest.fixture
def model() -> ir.Model:
    return parse(GRAPH)


@pytest.fixture
def course(model: ir.Model, executor: Executor) -> Course:
    return Activations(executor, executor.store(FEEDS)).course(model)


def changed(model: ir.Model) -> ir.Model:
    other = model.clone()
    other.graph.initializers["w"].const_value = ir.tensor(OTHER, name="w")
    return other


def test_a_weight_that_changes_at_a_stop_is_the_one_behind_it(
    model: ir.Model, course: Course
) -> None:
    expected = run_model(changed(model), FEEDS)
    course.stop_before(model.graph[4])
    model.graph.initializers["w"].const_value = ir.tensor(OTHER, name="w")
    course.stop_before(model.graph[5])
    for rows, outputs in zip(course.rows("p"), expected, strict=True):
        np.testing.assert_allclose(1 / (1 + np.exp(-rows)), outputs["y"], rtol=1e-5)
    course.end()


def test_what_is_behind_a_stop_is_that_of_the_whole(
    model: ir.Model, course: Course, executor: Executor
) -> None:
    """With weights that are inputs there; what has been given before is not given again."""
    open_ = model.clone()
    weight = open_.graph.initializers.pop("w")
    weight.const_value = None
    open_.graph.inputs.append(weight)
    first = model.graph.initializers["w"].const_value
    assert first is not None
    given = executor.store([{"w": first.numpy()}, {"w": OTHER}])
    course.stop_before(model.graph[4])
    answers = list(course.behind(open_, [given[:1], given]))
    for found, whole in zip(answers, (model, changed(model)), strict=True):
        for mine, theirs in zip(found, run_model(whole, FEEDS), strict=True):
            assert list(mine) == ["y"]
            np.testing.assert_allclose(mine["y"], theirs["y"], rtol=1e-5)
    course.end()
