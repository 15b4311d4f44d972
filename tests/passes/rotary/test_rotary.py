"""What is no rotation, or cannot be proved to be one, stays; all other spellings are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.recover.rotary import Rotary

HERE = Path(__file__).parent
HALVES = (HERE / "halves.before.onnxtxt").read_text()
APART = (HERE / "halves_apart.before.onnxtxt").read_text()
CONSTANT = (HERE / "constant_tables.before.onnxtxt").read_text()
PARTIAL = (HERE / "partial_in_heads_last.before.onnxtxt").read_text()


def apply(text: str) -> tuple[int, list[str], list[str]]:
    """Rewrites, reasons of refusals, operators afterwards; refusing changes nothing."""
    model = parse(text)
    before = model.clone()
    outcome = Rotary().apply(model, make_context())
    if outcome.rewrites == 0:
        assert identical(before, model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return (
        outcome.rewrites,
        [refusal.reason for refusal in outcome.refusals],
        [node.op_type for node in model.graph],
    )


@pytest.mark.parametrize(
    ("text", "old", "new", "reason"),
    [
        (HALVES, "Concat <axis = -1> (angles, angles)", "Concat <axis = -1> (angles, other)",
         "features 0 and 4, a pair, have different cosines"),
        (CONSTANT, "0.5, 0.9, 0.5, 0.9", "0.5, 0.9, 0.5, 0.8", "have different cosines"),
        (CONSTANT, "-0.8, -0.4, 0.8, 0.4", "0.8, -0.4, 0.8, 0.4", "have different sines"),
        (APART, "(first, second)", "(second, first)", "the cosines of features 0 and 3, a pair"),
        (APART, "Sub (ac, bs)", "Add (ac, bs)", "have the same sign"),
        (APART, "float[batch, length, 3] sin)", "float[other, length, 3] sin)",
         "does not prove that table sin has its size of axis 0"),
        (HALVES, "float[1, length, 4] angles", "float[1, other, 4] angles",
         "does not prove that table cos has its size of axis 2"),
        (HALVES, '"" : 23', '"" : 22', "operator set 23, the model has 22"),
        (APART, "float[", "double[", "does not take DOUBLE"),
    ],
)  # fmt: skip
def test_refuses(text: str, old: str, new: str, reason: str) -> None:
    assert old in text
    changed = text.replace(old, new)
    if "other)" in new:
        changed = changed.replace("4] angles)", "4] angles, float[1, length, 4] other)")
    rewrites, reasons, _ = apply(changed)
    assert rewrites == 0
    assert reasons and all(reason in item for item in reasons)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (APART, "Mul (b, cos)", "Mul (a, cos)"),  # the partner twice
        (APART, "Mul (b, sin)", "Mul (ac, sin)"),  # two tables in one term
        (PARTIAL, "Concat <axis = -1> (sum, rest)", "Concat <axis = -1> (rest, sum)"),
    ],
)
def test_leaves_what_is_no_rotation_of_the_whole(text: str, old: str, new: str) -> None:
    assert old in text
    rewrites, reasons, operators = apply(text.replace(old, new))
    assert reasons == []
    # Where the turned features come last, they are a value of their own that is rotated.
    assert rewrites == (1 if text is PARTIAL else 0)
    assert ("RotaryEmbedding" in operators) == (text is PARTIAL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(b, cos)", "(cos, b)"),
        ("Sub (ac, bs)", "Add (ac, nb)"),
        ("Mul (sin, a)", "Mul (a, sin)"),
        ("Add (bc, as)", "Sub (bc, na)"),
    ],
)
def test_spellings(old: str, new: str) -> None:
    text = APART.replace(old, new)
    text = text.replace("first =", "nb = Neg (bs)\n  first =") if "nb" in new else text
    text = text.replace("second =", "na = Neg (as)\n  second =") if "na" in new else text
    rewrites, reasons, operators = apply(text)
    assert (rewrites, reasons) == (1, [])
    assert operators.count("RotaryEmbedding") == 1


def test_the_other_direction_takes_the_negative_sine() -> None:
    text = APART.replace("Sub (ac, bs)", "Add (ac, bs)").replace("Add (bc, as)", "Sub (bc, as)")
    model = parse(text)
    before = model.clone()
    assert Rotary().apply(model, make_context()).rewrites == 1
    assert [node.op_type for node in model.graph] == ["Neg", "RotaryEmbedding"]
    random = np.random.default_rng(0)
    shapes = {"x": (2, 5, 6), "cos": (2, 5, 3), "sin": (2, 5, 3)}
    feed = {key: random.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    (mine,), (theirs,) = run_model(before, [feed]), run_model(model, [feed])
    assert relative_l2(mine["y"], theirs["y"]) < 1e-6


def test_a_value_that_others_read_stays() -> None:
    text = APART.replace("6] y)", "6] y, float[batch, length, 3] first)")
    rewrites, _, operators = apply(text)
    assert rewrites == 1
    assert operators.count("Sub") == 1 and "Add" not in operators


def test_runs_with_a_batch_after_one_row_is_repeated() -> None:
    model = parse((HERE / "one_row.before.onnxtxt").read_text())
    assert Rotary().apply(model, make_context()).rewrites == 2
    feed = {
        "x": np.ones((2, 2, 3, 4), np.float32),
        "h": np.ones((5, 3, 4), np.float32),
        "cos": np.ones((1, 3, 2), np.float32),
        "sin": np.zeros((1, 3, 2), np.float32),
    }
    (outputs,) = run_model(model, [feed])
    assert np.array_equal(outputs["z"], feed["h"]) and np.array_equal(outputs["y"], feed["x"])


def test_in_half_precision() -> None:
    model = parse(APART.replace("float[", "float16["))
    before = model.clone()
    assert Rotary().apply(model, make_context()).rewrites == 1
    random = np.random.default_rng(0)
    shapes = {"x": (2, 5, 6), "cos": (2, 5, 3), "sin": (2, 5, 3)}
    feed = {key: random.normal(size=shape).astype(np.float16) for key, shape in shapes.items()}
    (mine,), (theirs,) = run_model(before, [feed]), run_model(model, [feed])
    assert relative_l2(mine["y"], theirs["y"]) < 4 * np.finfo(np.float16).eps


def test_in_a_branch_with_tables_from_outside() -> None:
    body = APART[APART.rindex("{") :].replace("6] y", "6] t")
    text = f"""
        <ir_version: 11, opset_import: ["" : 23]>
        rotary (bool flag, float[batch, length, 6] x, float[1, length, 6] angles)
          => (float[batch, length, 6] result)
        <int64[1] zero = {{0}}, int64[1] three = {{3}}, int64[1] two = {{2}}>
        {{
          part = Slice (angles, zero, three, two)
          cos = Cos (part)
          sin = Sin (part)
          result = If (flag) <
            then_branch = then () => (float[batch, length, 6] y) {body},
            else_branch = otherwise () => (float[batch, length, 6] z) {{ z = Relu (x) }}
          >
        }}
    """
    model = parse(text)
    before = model.clone()
    assert Rotary().apply(model, make_context()).rewrites == 1
    random = np.random.default_rng(0)
    feed = {
        "flag": np.array(True),
        "x": random.normal(size=(2, 5, 6)).astype(np.float32),
        "angles": random.normal(size=(1, 5, 6)).astype(np.float32),
    }
    (mine,), (theirs,) = run_model(before, [feed]), run_model(model, [feed])
    assert relative_l2(mine["result"], theirs["result"]) < 1e-6
