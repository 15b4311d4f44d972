"""Spellings of the root-mean-square normalization, and what only resembles one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.recover.rms_norm import RmsNorm

FRAME = """
<ir_version: 10, opset_import: ["" : 23]>
norm (float[b, s, 8] x, float[b, s, 8] other) => (float[b, s, 8] y)
<float[8] w = {0.5, 1.5, -1, 2, 0.25, 1, 3, -0.5}, float[1, 1, 8] deep = {1, 2, 3, 4, 5, 6, 7, 8},
 float[1] eps = {1e-3}, float one = {1}, float two = {2}, float half = {0.5},
 float inverse_half = {-0.5}, float inverse = {-1}, float size = {8}, float length = {2.8284271},
 float share = {0.35355339}, int64[1] last = {-1}, int64[1] axis = {2}, int64[1] first = {0}>
{
  BODY
}
"""

MEAN = "q = Mul (x, x) v = ReduceMean (q, last) "
ROOT = MEAN + "a = Add (v, eps) r = Sqrt (a) "
END = "a = Add (v, eps) r = Sqrt (a) y = Div (x, r)"

SPELLINGS = {
    "plain": ROOT + "n = Div (x, r) y = Mul (n, w)",
    "inverse": ROOT + "i = Reciprocal (r) n = Mul (x, i) y = Mul (w, n)",
    "power": "q = Pow (x, two) v = ReduceMean (q, axis) " + END,
    "inverse power": MEAN + "a = Add (eps, v) i = Pow (a, inverse_half) y = Mul (i, x)",
    "power of the root": ROOT + "i = Pow (r, inverse) y = Mul (i, x)",
    "one and weight": ROOT + "n = Div (x, r) u = Add (one, w) y = Mul (n, u)",
    "scaled inverse": ROOT + "i = Div (one, r) k = Mul (i, w) y = Mul (k, x)",
    "scale of more axes": ROOT + "n = Div (x, r) y = Mul (n, deep)",
    "sum": "q = Mul (x, x) z = ReduceSum (q, last) v = Div (z, size) " + END,
    "sum of squares": "z = ReduceSumSquare (x, last) v = Div (z, size) " + END,
    "length": "l = ReduceL2 (x, last) r = Div (l, length) n = Div (x, r) y = Mul (n, w)",
    "length by sum": "z = ReduceSumSquare (x, last) l = Sqrt (z) r = Mul (share, l) "
    "n = Div (x, r) y = Mul (n, w)",
    "no epsilon": MEAN + "r = Sqrt (v) y = Div (x, r)",
}


def frame(body: str) -> ir.Model:
    return parse(FRAME.replace("BODY", body))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def assert_equal(before: ir.Model, after: ir.Model, kind: type = np.float32) -> None:
    x = (3 * np.random.default_rng(0).standard_normal((2, 3, 8)) + 0.5).astype(kind)
    feed = {"x": x, "other": x[::-1] * 2}
    ((mine,), (theirs,)) = run_model(before, [feed]), run_model(after, [feed])
    bound = 4 * float(np.finfo(kind).eps)
    for name, array in mine.items():
        assert relative_l2(array, theirs[name]) < bound


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    model = frame(SPELLINGS[name])
    original = model.clone()
    outcome = RmsNorm().apply(model, make_context())
    assert outcome.rewrites == 1, outcome.refusals
    assert not outcome.refusals
    rest = operators(model) - Counter(["RMSNormalization"])
    assert rest == Counter(["Add"] if name == "one and weight" else [])
    node = next(node for node in model.graph if node.op_type == "RMSNormalization")
    assert node.inputs[1] is not None
    constant = ir.convenience.get_const_tensor(node.inputs[1])
    assert constant is None or tuple(constant.shape) == (8,)
    assert_equal(original, model)


def test_a_bias_and_a_second_factor_stay_outside() -> None:
    model = frame(ROOT + "n = Div (x, r) k = Mul (n, w) f = Mul (k, half) y = Add (f, w)")
    original = model.clone()
    assert RmsNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["RMSNormalization", "Mul", "Add"])
    assert_equal(original, model)


def test_a_scale_that_differs_between_tokens_stays_outside() -> None:
    model = frame(ROOT + "n = Div (x, r) y = Mul (n, other)")
    original = model.clone()
    assert RmsNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["RMSNormalization", "Mul"])
    assert_equal(original, model)


HALF = FRAME.replace("(float[b, s, 8] x, float[b, s, 8] other)", "(float16[b, s, 8] x)")
ISLAND = "g = Cast <to = 1> (x) " + ROOT.replace("(x, x)", "(g, g)")


@pytest.mark.parametrize(
    ("body", "output", "left"),
    [
        # The scale is applied in half: the operator says it all, and computes in float32 inside.
        (
            ISLAND + "n = Div (g, r) h = Cast <to = 10> (n) u = Cast <to = 10> (w) y = Mul (h, u)",
            "float16",
            ["RMSNormalization", "Cast"],
        ),
        # The scale is applied in float32: so it stays.
        (
            ISLAND + "n = Div (g, r) k = Mul (n, w) y = Cast <to = 10> (k)",
            "float16",
            ["Cast", "RMSNormalization", "Cast"],
        ),
        # The input is cast twice, and the inverse is rounded before it multiplies.
        (
            ISLAND + "i = Reciprocal (r) h = Cast <to = 10> (i) y = Mul (x, h)",
            "float16",
            ["RMSNormalization"],
        ),
        (
            ISLAND + "f = Cast <to = 1> (x) n = Div (f, r) y = Mul (n, w)",
            "float",
            ["Cast", "RMSNormalization"],
        ),
    ],
)
def test_islands_of_single_precision(body: str, output: str, left: list[str]) -> None:
    text = HALF.replace("(float[b, s, 8] y)", f"({output}[b, s, 8] y)").replace("BODY", body)
    model = parse(text)
    original = model.clone()
    outcome = RmsNorm().apply(model, make_context())
    assert outcome.rewrites == 1, outcome.refusals
    assert operators(model) == Counter(left)
    assert_equal(original, model, np.float16)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ROOT + "f = Add (r, eps) y = Div (x, f)", "epsilon is added outside of the root"),
        (
            "l = ReduceL2 (x, last) g = Div (l, length) f = Add (g, eps) y = Div (x, f)",
            "epsilon is added outside of the root",
        ),
        (
            "l = ReduceL2 (x, last) g = Div (l, length) f = Clip (g, eps) y = Div (x, f)",
            "bounds the root",
        ),
        (MEAN + "a = Max (v, eps) r = Sqrt (a) y = Div (x, r)", "bounds the mean square"),
        (ROOT + "y = Div (other, r)", "does not divide the x whose square is averaged"),
        (ROOT + "y = Mul (x, r)", "neither multiplies nor divides"),
        (MEAN.replace("last", "first") + END, "are not the last ones"),
        (
            "q = Mul (x, x) v = ReduceMean <keepdims = 0> (q, last) a = Add (v, eps) r = Sqrt (a) "
            "t = Transpose <perm = [1, 2, 0]> (x) u = Div (t, r) "
            "y = Transpose <perm = [2, 0, 1]> (u)",
            "does not keep its axes",
        ),
        (
            "q = Mul (x, x) z = ReduceSum (q, last) g = ReduceMax (other, last) v = Div (z, g) "
            + END,
            "by what is no constant",
        ),
    ],
)
def test_refuses(body: str, reason: str) -> None:
    model = frame(body)
    outcome = RmsNorm().apply(model, make_context())
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert reason in refusal.reason


def test_dividing_by_a_length_is_no_normalization() -> None:
    model = frame("z = ReduceSumSquare (x, last) a = Add (z, eps) r = Sqrt (a) y = Div (x, r)")
    outcome = RmsNorm().apply(model, make_context())
    assert (outcome.rewrites, outcome.refusals) == (0, ())


def test_a_width_that_is_not_known_keeps_its_scale_outside() -> None:
    text = FRAME.replace("[b, s, 8] x", "[b, s, n] x").replace("BODY", SPELLINGS["plain"])
    model = parse(text.replace("y)\n", "y)\n"))
    model.graph.outputs[0].shape = None
    original = model.clone()
    assert RmsNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["RMSNormalization", "Mul"])
    assert_equal(original, model)


def test_needs_the_operator() -> None:
    model = frame(SPELLINGS["plain"])
    model.opset_imports[""] = 22
    (refusal,) = RmsNorm().apply(model, make_context()).refusals
    assert "operator set 23" in refusal.reason
