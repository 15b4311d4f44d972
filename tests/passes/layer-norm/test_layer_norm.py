"""Spellings of layer normalization, and what only resembles one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.recover.layer_norm import LayerNorm
from burnish.passes.recover.rms_norm import RmsNorm

FRAME = """
<ir_version: 10, opset_import: ["" : 23]>
norm (float[b, s, 8] x, float[b, s, 8] other) => (float[b, s, 8] y)
<float[8] w = {0.5, 1.5, -1, 2, 0.25, 1, 3, -0.5}, float[8] c = {0.1, 0.2, -0.3, 0.4, 0, -1, 2, 1},
 float eps = {1e-3}, float[1] less = {-1e-3}, float zero = {0}, float one = {1}, float two = {2},
 float half = {0.5}, float inverse_half = {-0.5}, float size = {8}, float share = {0.125},
 float bessel = {7}, float ratio = {1.1428572}, float length = {2.8284271},
 int64[1] last = {-1}, int64[1] first = {1}, int64[2] both = {-2, -1}>
{
  BODY
}
"""

MEAN = "m = ReduceMean (x, last) d = Sub (x, m) "
SQUARE = MEAN + "q = Mul (d, d) "
VARIANCE = SQUARE + "v = ReduceMean (q, last) "
ROOT = VARIANCE + "a = Add (v, eps) r = Sqrt (a) "
INVERSE = ROOT + "i = Reciprocal (r) "
NORMAL = ROOT + "n = Div (d, r) "
END = "a = Add (v, eps) r = Sqrt (a) y = Div (d, r)"

SPELLINGS = {
    "plain": NORMAL + "k = Mul (n, w) y = Add (k, c)",
    "other orders": NORMAL + "k = Mul (w, n) y = Add (c, k)",
    "no bias": NORMAL + "y = Mul (n, w)",
    "no scale": NORMAL + "y = Add (n, c)",
    "neither": ROOT + "y = Div (d, r)",
    "one number": NORMAL + "y = Mul (n, half)",
    "computed scale": NORMAL + "u = Add (w, one) k = Mul (n, u) y = Add (k, c)",
    "power": MEAN + "q = Pow (d, two) v = ReduceMean (q, last) " + END,
    "mean twice": MEAN + "g = ReduceMean (x, last) e = Sub (x, g) q = Mul (d, e) "
    "v = ReduceMean (q, last) a = Add (eps, v) r = Sqrt (a) y = Div (e, r)",
    "minus": "m = ReduceMean (x, last) o = Neg (m) d = Add (o, x) q = Mul (d, d) "
    "v = ReduceMean (q, last) " + END,
    "identities": MEAN + "e = Identity (d) q = Mul (e, d) v = ReduceMean (q, last) "
    "a = Add (v, eps) r = Sqrt (a) f = Identity (r) y = Div (e, f)",
    "reciprocal": INVERSE + "n = Mul (i, d) k = Mul (n, w) y = Add (k, c)",
    "one over": ROOT + "i = Div (one, r) y = Mul (d, i)",
    "reciprocal first": VARIANCE + "a = Add (v, eps) p = Reciprocal (a) i = Sqrt (p) "
    "y = Mul (d, i)",
    "half power": VARIANCE + "a = Add (v, eps) r = Pow (a, half) y = Div (d, r)",
    "inverse power": VARIANCE + "a = Add (v, eps) i = Pow (a, inverse_half) y = Mul (d, i)",
    "scaled inverse": INVERSE + "k = Mul (i, w) n = Mul (k, d) y = Add (n, c)",
    "scaled difference": INVERSE + "k = Mul (d, w) n = Mul (k, i) y = Add (n, c)",
    "scaled before division": ROOT + "k = Mul (w, d) n = Div (k, r) y = Add (n, c)",
    "shift folded": INVERSE + "k = Mul (i, w) f = Mul (x, k) g = Mul (m, k) h = Sub (c, g) "
    "y = Add (h, f)",
    "shift without bias": INVERSE + "k = Mul (w, i) f = Mul (k, x) g = Mul (k, m) y = Sub (f, g)",
    "shift negated": INVERSE + "f = Mul (i, x) g = Mul (i, m) h = Neg (g) y = Add (f, h)",
    "sums": "t = ReduceSum (x, last) m = Div (t, size) d = Sub (x, m) q = Mul (d, d) "
    "z = ReduceSum (q, last) v = Mul (z, share) " + END,
    "sum of squares": MEAN + "z = ReduceSumSquare (d, last) v = Div (z, size) " + END,
    "length": MEAN + "l = ReduceL2 (d, last) q = Pow (l, two) v = Div (q, size) " + END,
    "length over root": MEAN + "l = ReduceL2 (d, last) r = Div (l, length) y = Div (d, r)",
    "mean of squares": MEAN + "q = Mul (x, x) e = ReduceMean (q, last) p = Mul (m, m) "
    "v = Sub (e, p) " + END,
    "kept above zero": MEAN + "q = Mul (x, x) e = ReduceMean (q, last) p = Pow (m, two) "
    "f = Sub (e, p) v = Max (f, zero) " + END,
    "dropped axes": "g = ReduceMean <keepdims = 0> (x, last) m = Unsqueeze (g, last) "
    "d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, last) " + END,
    "no epsilon": VARIANCE + "r = Sqrt (v) y = Div (d, r)",
}


def frame(body: str) -> ir.Model:
    return parse(FRAME.replace("BODY", body))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def assert_equal(before: ir.Model, after: ir.Model, bound: float = 2e-6) -> None:
    random = np.random.default_rng(0)
    x = (3 * random.standard_normal((2, 3, 8)) + 0.5).astype(np.float32)
    feed = {"x": x, "other": x[::-1] * 2}
    pairs = zip(run_model(before, [feed]), run_model(after, [feed]), strict=True)
    for mine, theirs in pairs:
        for name, array in mine.items():
            assert relative_l2(array, theirs[name]) < bound


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    model = frame(SPELLINGS[name])
    original = model.clone()
    outcome = LayerNorm().apply(model, make_context())
    assert outcome.rewrites == 1, outcome.refusals
    assert not outcome.refusals
    rest = operators(model) - Counter(["LayerNormalization"])
    assert rest == Counter(["Add"] if name == "computed scale" else [])
    assert_equal(original, model)


def test_two_axes() -> None:
    model = frame(NORMAL.replace("last", "both") + "y = Mul (n, w)")
    model.graph.inputs[0].shape = ir.Shape(["b", 3, 8])
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["LayerNormalization", "Mul"])  # the scale is of one axis
    assert_equal(original, model)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ROOT + "f = Add (r, eps) y = Div (d, f)", "epsilon is added outside of the root"),
        (VARIANCE + "a = Max (v, eps) r = Sqrt (a) y = Div (d, r)", "bounds the mean square"),
        (ROOT + "f = Max (r, eps) y = Div (d, f)", "bounds the root"),
        (ROOT + "y = Div (x, r)", "does not divide the x - mean"),
        (ROOT + "y = Div (other, r)", "does not divide the x - mean"),
        (
            SQUARE + "z = ReduceSum (q, last) v = Div (z, bessel) " + END,
            "divides by 7, one less than",
        ),
        (
            SQUARE + "z = ReduceMean (q, last) v = Mul (z, ratio) " + END,
            "divides by 7, one less than",
        ),
        (SQUARE + "z = ReduceSum (q, last) v = Mul (z, half) " + END, "is scaled by 4"),
        (
            VARIANCE + "f = ReduceMax (other, last) a = Add (v, f) r = Sqrt (a) y = Div (d, r)",
            "is no constant",
        ),
        (
            "m = ReduceMean (x, first) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, first) "
            + END,
            "is over axes [-2], which are not the last ones",
        ),
        (
            "m = ReduceMean (x) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q) " + END,
            "",
        ),
        (ROOT + "y = Sub (d, r)", "neither multiplies nor divides"),
    ],
)
def test_refuses(body: str, reason: str) -> None:
    model = frame(body)
    original = model.clone()
    outcome = LayerNorm().apply(model, make_context())
    assert outcome.rewrites == 0
    if reason:
        (refusal,) = outcome.refusals
        assert reason in refusal.reason
        assert refusal.node
    assert operators(model) == operators(original)


def test_a_mean_over_another_axis_leaves_a_root_mean_square() -> None:
    body = SPELLINGS["plain"].replace("ReduceMean (x, last)", "ReduceMean (x, first)")
    model = frame(body)
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 0
    assert RmsNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["ReduceMean", "Sub", "RMSNormalization", "Add"])
    assert_equal(original, model)


def test_an_intermediate_with_other_readers_stays() -> None:
    model = frame(NORMAL + "k = Mul (n, w) f = Add (k, c) g = Add (d, r) y = Add (f, g)")
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    left = operators(model)
    assert left["LayerNormalization"] == 1
    assert left["Sqrt"] == 1
    assert left["Div"] == 0
    assert_equal(original, model)


def test_two_scales_of_one_normalization_stay_outside() -> None:
    model = frame(NORMAL + "k = Mul (n, w) f = Add (k, c) g = Mul (n, c) y = Add (f, g)")
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(LayerNormalization=1, Mul=2, Add=2)
    assert_equal(original, model)


def test_one_normalization_after_another() -> None:
    second = SPELLINGS["plain"].replace("(x,", "(z,").replace(" w)", " c)")
    for name in "mdqvarnk":
        second = second.replace(f"{name} =", f"{name}2 =")
        second = second.replace(f"({name},", f"({name}2,").replace(f", {name})", f", {name}2)")
    second = second.replace("Sub (z, m2)", "Sub (z, m2)").replace("(a)", "(a2)")
    model = frame(SPELLINGS["plain"].replace("y =", "z =") + " " + second)
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 2
    assert operators(model) == Counter(LayerNormalization=2)
    assert_equal(original, model)


def test_an_output_in_between_is_kept() -> None:
    model = frame(SPELLINGS["plain"])
    middle = next(node.outputs[0] for node in model.graph if node.outputs[0].name == "n")
    middle.dtype, middle.shape = ir.DataType.FLOAT, ir.Shape(["b", "s", 8])
    model.graph.outputs.append(middle)
    original = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    assert [value.name for value in model.graph.outputs] == ["y", "n"]
    assert_equal(original, model)


def test_inside_of_a_branch() -> None:
    branch = SPELLINGS["plain"].replace("y =", "z =")
    model = parse(
        FRAME.replace("float[b, s, 8] other", "bool flag").replace(
            "BODY",
            "y = If (flag) <then_branch = then_graph () => (float[b, s, 8] z) { "
            + branch
            + " }, else_branch = else_graph () => (float[b, s, 8] e) { e = Add (x, c) }>",
        )
    )
    before = model.clone()
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 8), np.float32)
    for flag in (True, False):
        feed = {"x": x, "flag": np.array(flag)}
        ((mine,), (theirs,)) = run_model(before, [feed]), run_model(model, [feed])
        assert relative_l2(mine["y"], theirs["y"]) < 1e-6


def test_needs_the_operator() -> None:
    model = frame(SPELLINGS["plain"])
    model.opset_imports[""] = 16
    (refusal,) = LayerNorm().apply(model, make_context()).refusals
    assert "operator set 17" in refusal.reason


def test_double_precision_is_left_alone() -> None:
    text = FRAME.replace("BODY", ROOT + "y = Div (d, r)").replace("float", "double")
    (refusal,) = LayerNorm().apply(parse(text), make_context()).refusals
    assert "double precision" in refusal.reason


def test_types_that_only_the_statistics_know() -> None:
    model = frame(SPELLINGS["plain"])
    for node in model.graph:
        if node.op_type in ("ReduceMean", "Sqrt"):
            node.outputs[0].dtype, node.outputs[0].shape = (
                ir.DataType.FLOAT,
                ir.Shape(["b", "s", 1]),
            )
    model.graph.outputs[0].type = None
    original = frame(SPELLINGS["plain"])
    assert LayerNorm().apply(model, make_context()).rewrites == 1
    model.graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    assert_equal(original, model)
