"""What changed, how far it may differ, and what else a rewrite must keep."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, make_checker
from samples import parse

from burnish.optimizer.contract import EXACT, LOSSY, ROUNDING, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import Region, changed_region, cut, identical
from burnish.optimizer.verify import Checker

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[batch, 2] x) => (float[batch, 2] y)
<float[2, 2] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
{
  product = MatMul (x, w)
  sum = Add (product, b)
  active = Relu (sum)
  y = Tanh (active)
}
"""


def changed(old: str, new: str) -> tuple[ir.Model, ir.Model]:
    assert old in CHAIN
    return parse(CHAIN), parse(CHAIN.replace(old, new))


# relative_l2


@pytest.mark.parametrize(
    ("reference", "candidate", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-9], np.inf),
        ([np.nan, 4.0], [7.0, 4.0], 0.0),
        ([3.0, 4.0], [np.nan, 4.0], np.inf),
        ([np.inf, 4.0], [np.inf, 4.0], 0.0),
        ([np.inf, 4.0], [-np.inf, 4.0], np.inf),
        ([3.0, 4.0], [np.inf, 4.0], np.inf),
        ([3.0, 4.0], [3.0, 4.0, 0.0], np.inf),
        ([3.0, 4.0, -3.4e38], [3.0, 4.5, -3.4e38], 0.1),
        ([3.0, 4.0, -3.4e38], [3.0, 4.5, -np.inf], 0.1),
        ([3.0, 4.0, -3.4e38], [3.0, 4.0, 0.0], np.inf),
        ([3.0, 4.0, -1e9], [3.0, 4.5, -1e9], 0.1),
        ([3.0, 4.0, -1.7e308], [3.0, 4.5, -1.7e308], 0.1),
        ([3.0 + 1j, 4.0 + 1j], [3.0 + 1j, 4.0 + 9j], 8 / 2**0.5),
    ],
)
def test_relative_l2(reference: list[float], candidate: list[float], error: float) -> None:
    assert relative_l2(np.array(reference), np.array(candidate)) == pytest.approx(error)


def test_relative_l2_of_integers_is_all_or_nothing() -> None:
    assert relative_l2(np.array([1, 2]), np.array([1, 2])) == 0.0
    assert relative_l2(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert relative_l2(np.zeros((0, 3)), np.ones((0, 3))) == 0.0


# changed_region


@pytest.mark.parametrize(
    ("old", "new", "inputs", "outputs"),
    [
        ("Relu (sum)", "Relu (sum)", (), ()),
        ("Relu (sum)", "Elu (sum)", ("sum",), ("active",)),
        ("Tanh (active)", "Tanh (sum)", ("sum",), ("y",)),
        ("{5, 6}", "{5, 7}", ("product",), ("sum",)),
        ("{1, 2, 3, 4}", "{1, 2, 3, 5}", ("x",), ("product",)),
        ("Relu (sum)", "Elu <alpha = 2.0> (sum)", ("sum",), ("active",)),
    ],
)
def test_changed_region(
    old: str, new: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    assert changed_region(*changed(old, new)) == Region(inputs, outputs)


def test_changed_region_of_a_fusion_has_no_inner_values() -> None:
    before, after = changed(
        "product = MatMul (x, w)\n  sum = Add (product, b)", "sum = Gemm (x, w, b)"
    )
    assert changed_region(before, after) == Region(("x",), ("sum",))


def test_changed_region_sees_what_branches_take_from_outside() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        branch (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            h = Relu (x)
            y = If (c) <
                then_branch = t () => (float[2] a) { a = Mul (h, w) },
                else_branch = e () => (float[2] b) { b = Neg (h) }
            >
        }
    """
    region = changed_region(parse(text), parse(text.replace("{1, 2}", "{1, 3}")))
    assert region.outputs == ("y",)
    assert set(region.inputs) == {"c", "h"}
    region = changed_region(parse(text), parse(text.replace("Neg (h)", "Abs (h)")))
    assert region.outputs == ("y",)


# identical


def test_identical() -> None:
    model = parse(CHAIN)
    assert identical(model, parse(CHAIN))
    assert identical(model, model.clone())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{5, 6}", "{5, 7}"),
        ("Relu (sum)", "Elu (sum)"),
        ("float[batch, 2] x", "float[n, 2] x"),
        ("{5, 6}>", "{5, 6}, float[1] unused = {1}>"),
        ("float[2] b = {5, 6}", "double[2] b = {5, 6}"),
    ],
)
def test_not_identical(old: str, new: str) -> None:
    assert not identical(*changed(old, new))


# cut


def test_cut_takes_what_is_needed() -> None:
    part = cut(parse(CHAIN), ["product"], ["active"])
    assert [value.name for value in part.graph.inputs] == ["product"]
    assert [value.name for value in part.graph.outputs] == ["active"]
    assert [node.op_type for node in part.graph] == ["Add", "Relu"]
    assert list(part.graph.initializers) == ["b"]


# Checker


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Relu (sum)", "Relu (sum)", ""),
        ("Relu (sum)", "Elu (sum)", "promised exact (relative error at most 0), but active"),
        ("Relu (sum)", "Neg (sum)", "promised exact (relative error at most 0), but active"),
        ("Relu (sum)", "Flatten <axis = 0> (sum)", "active differs by inf"),
        ("Relu (sum)", "Gelu (sum)", "the result is not legal"),
        ("batch, 2] y", "batch, 3] y", "output y changed from FLOAT('batch', 2)"),
        ("[batch, 2] x", "[4, 2] x", "input x changed from FLOAT('batch', 2) to FLOAT(4, 2)"),
    ],
)
def test_check(old: str, new: str, problem: str, executor: Executor) -> None:
    before, after = changed(old, new)
    verdict = make_checker(executor, before).check(before, after, EXACT)
    assert verdict.problem.startswith(problem) or problem in verdict.problem
    assert bool(verdict.problem) == bool(problem)


def test_check_measures_each_value_that_changed(executor: Executor) -> None:
    before, after = changed("Tanh (active)", "Sin (active)")
    checker = make_checker(executor, before)
    verdict = checker.check(before, after, LOSSY)
    assert set(verdict.errors) == {"y"}
    assert verdict.error == verdict.errors["y"] > 0.5
    assert checker.check(before, after, ROUNDING).problem.startswith("promised rounding")


def test_constants_keep_their_values_under_their_names(executor: Executor) -> None:
    """Unless the pass is lossy: feeds read only some of a table's rows."""
    before, after = changed("{5, 6}", "{5.001, 6}")
    checker = make_checker(executor, before)
    problem = "constant b has other values under the same name"
    assert checker.check(before, after, EXACT).problem == problem
    assert checker.check(before, after, ROUNDING).problem == problem
    verdict = checker.check(before, after, LOSSY)
    assert verdict.problem == ""
    assert 0 < verdict.errors["sum"] < 0.01


def test_check_needs_a_feed_that_runs(executor: Executor) -> None:
    before, after = changed("Relu (sum)", "Elu (sum)")
    wrong = executor.store([{"x": np.zeros((2, 3), np.float32)}])
    verdict = Checker(executor, wrong).check(before, after, EXACT)
    assert verdict.problem == "none of the feeds ran through the changed region"


def test_check_without_feeds_is_a_check_of_legality(executor: Executor) -> None:
    before, after = changed("Relu (sum)", "Elu (sum)")
    assert Checker(executor, []).check(before, after, EXACT).problem == ""
    before, after = changed("Relu (sum)", "Gelu (sum)")
    assert "not legal" in Checker(executor, []).check(before, after, EXACT).problem


def test_check_leaves_nothing_behind(executor: Executor) -> None:
    before, after = changed("{5, 6}", "{5, 7}")
    checker = make_checker(executor, before)
    kept = set(executor.scratch.iterdir())
    checker.check(before, after, EXACT)
    assert set(executor.scratch.iterdir()) == kept


def test_the_sandboxed_executor_agrees(sandboxed: Executor) -> None:
    before, after = changed("Relu (sum)", "Elu (sum)")
    verdict = make_checker(sandboxed, before).check(before, after, EXACT)
    assert "but active differs" in verdict.problem
    assert len(made_up(before)) >= 5


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
calls (float[batch, 2] x) => (float[batch, 2] y) { y = f.outer (x) }
<domain: "f", opset_import: ["" : 17, "f" : 1]>
outer (x) => (y) { y = f.inner (x) }
<domain: "f", opset_import: ["" : 17]>
inner (x) => (y) { y = Relu (x) }
"""


def test_a_function_that_a_function_calls_is_compared(executor: Executor) -> None:
    before, after = parse(FUNCTIONS), parse(FUNCTIONS.replace("Relu", "Neg"))
    assert not identical(before, after)
    assert changed_region(before, after) == Region(("x",), ("y",))
    assert make_checker(executor, before).check(before, after, ROUNDING).problem


def test_probes_find_what_the_feeds_do_not_show(executor: Executor) -> None:
    """A pass that is right for what is positive, on data that is."""
    before, after = changed("Relu (sum)", "Abs (sum)")
    data = executor.store([{"x": np.ones((3, 2), np.float32)}])
    probes = executor.store([{"x": np.full((3, 2), -9, np.float32)}])
    assert not Checker(executor, data).check(before, after, ROUNDING).problem
    assert Checker(executor, data, probes).check(before, after, ROUNDING).problem
    assert not Checker(executor, data, probes).check(before, after, LOSSY).problem


# lossy passes


@pytest.mark.parametrize(
    ("scales", "kept"),
    [
        ((1.0, 1.0), True),
        ((1.0, 0.03), True),  # a third of so small a feed is lost, and little of both together
        ((1.0, 0.001), False),  # one feed loses more than it has
        ((0.03, 0.03), False),
    ],
)
def test_a_lossy_promise_is_about_all_feeds_together(
    executor: Executor, scales: tuple[float, ...], kept: bool
) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        shift (float[batch, 2] x) => (float[batch, 2] y)
        <float[2] b = {0, 0}> { y = Add (x, b) }
    """
    before, after = (
        parse(text),
        parse(text.replace("b = {0, 0}> { y = Add (x, b)", "c = {0.01, 0.01}> { y = Add (x, c)")),
    )
    feeds = executor.store([{"x": np.full((3, 2), scale, np.float32)} for scale in scales])
    verdict = Checker(executor, feeds).check(before, after, LOSSY)
    assert (verdict.problem == "") == kept
    assert Checker(executor, feeds).check(before, after, ROUNDING).problem
