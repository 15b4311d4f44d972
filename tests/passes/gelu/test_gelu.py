"""Spellings of activations, and functions that only resemble one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.recover.gelu import Gelu

FRAME = """
<ir_version: 10, opset_import: ["" : 23]>
activation (float[b, s, 8] x, float[b, s, 8] other) => (float[b, s, 8] y)
<float one = {1}, float two = {2}, float three = {3}, float[1] half = {0.5}, float minus = {-1},
 float root = {1.4142135}, float six = {0.707107}, float rough = {1.414}, float cubic = {0.044715},
 float wrong = {0.0447}, float ratio = {0.79788456}, float digits = {0.797885},
 float folded = {0.035677408}, float double_ratio = {1.5957691}, float quick = {1.702},
 float other_quick = {1.5}, float four = {0.25}, float[8] weight = {1, 2, 3, 4, 5, 6, 7, 8}>
{
  BODY
}
"""

ERF = "u = Div (x, root) e = Erf (u) a = Add (e, one) "
CUBE = "p = Pow (x, three) m = Mul (p, cubic) g = Add (x, m) "
TANH = CUBE + "u = Mul (g, ratio) t = Tanh (u) a = Add (t, one) "

SPELLINGS = {
    "erf": (ERF + "m = Mul (x, a) y = Mul (m, half)", "none"),
    "erf, halved first": (ERF + "h = Mul (half, x) y = Mul (a, h)", "none"),
    "erf, halved second": (ERF + "h = Mul (a, half) y = Mul (h, x)", "none"),
    "erf, by two": (ERF + "m = Mul (a, x) y = Div (m, two)", "none"),
    "erf, six digits": (
        "u = Mul (six, x) e = Erf (u) a = Add (one, e) m = Mul (x, a) y = Mul (m, half)",
        "none",
    ),
    "erf, root computed": (
        "w = Sqrt (two) u = Div (x, w) e = Erf (u) a = Add (e, one) m = Mul (x, a) "
        "y = Mul (m, half)",
        "none",
    ),
    "erf, distributed": (
        "u = Div (x, root) e = Erf (u) h = Mul (x, half) k = Mul (h, e) y = Add (h, k)",
        "none",
    ),
    "tanh": (TANH + "h = Mul (x, half) y = Mul (h, a)", "tanh"),
    "tanh, six digits": (
        CUBE + "u = Mul (g, digits) t = Tanh (u) a = Add (t, one) h = Mul (x, half) y = Mul (h, a)",
        "tanh",
    ),
    "tanh, products": (
        "k = Mul (x, x) p = Mul (x, k) m = Mul (p, cubic) g = Add (m, x) u = Mul (ratio, g) "
        "t = Tanh (u) a = Add (one, t) m2 = Mul (a, x) y = Mul (half, m2)",
        "tanh",
    ),
    "tanh, factored": (
        "v = Mul (x, ratio) k = Mul (x, x) m = Mul (k, cubic) f = Add (m, one) u = Mul (v, f) "
        "t = Tanh (u) a = Add (one, t) w = Mul (x, half) y = Mul (w, a)",
        "tanh",
    ),
    "tanh, one constant": (
        "k = Mul (x, x) m = Mul (k, folded) f = Add (m, ratio) u = Mul (f, x) t = Tanh (u) "
        "h = Mul (t, half) a = Add (h, half) y = Mul (a, x)",
        "tanh",
    ),
    "tanh as a sigmoid": (
        CUBE + "u = Mul (g, double_ratio) t = Sigmoid (u) y = Mul (x, t)",
        "tanh",
    ),
}

FORMS = {
    "silu by exp": ("n = Neg (x) e = Exp (n) a = Add (e, one) y = Div (x, a)", ["Sigmoid", "Mul"]),
    "silu by product": (
        "n = Mul (minus, x) e = Exp (n) a = Add (one, e) r = Reciprocal (a) y = Mul (r, x)",
        ["Sigmoid", "Mul"],
    ),
    "silu by tanh": (
        "h = Mul (x, half) t = Tanh (h) a = Add (t, one) y = Mul (h, a)",
        ["Sigmoid", "Mul"],
    ),
    "quick by exp": (
        "u = Mul (x, quick) n = Neg (u) e = Exp (n) a = Add (e, one) y = Div (x, a)",
        ["Mul", "Sigmoid", "Mul"],
    ),
}


def frame(body: str) -> ir.Model:
    return parse(FRAME.replace("BODY", body))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def assert_equal(before: ir.Model, after: ir.Model, kind: type = np.float32) -> None:
    x = (3 * np.random.default_rng(0).standard_normal((2, 3, 8))).astype(kind)
    feed = {"x": x, "other": x[::-1] * 2}
    ((mine,), (theirs,)) = run_model(before, [feed]), run_model(after, [feed])
    bound = 2e-6 if kind is np.float32 else 4 * float(np.finfo(kind).eps)
    for name, array in mine.items():
        assert relative_l2(array, theirs[name]) < bound


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_gelu(name: str) -> None:
    body, approximate = SPELLINGS[name]
    model = frame(body)
    original = model.clone()
    outcome = Gelu().apply(model, make_context())
    assert outcome.rewrites == 1, outcome.refusals
    (node,) = model.graph
    assert node.op_type == "Gelu"
    assert node.attributes.get_string("approximate", "none") == approximate
    assert_equal(original, model)


@pytest.mark.parametrize("name", FORMS)
def test_sigmoids_get_their_form(name: str) -> None:
    body, form = FORMS[name]
    model = frame(body)
    original = model.clone()
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(form)
    assert_equal(original, model)
    assert Gelu().apply(model, make_context()).rewrites == 0


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid (x) y = Mul (s, x)",
        "u = Mul (quick, x) s = Sigmoid (u) y = Mul (x, s)",
        "s = HardSwish (x) y = Mul (s, other)",
        "s = Sigmoid (x) y = Mul (s, other)",
        "y = Tanh (x)",
        "u = Div (x, two) t = Tanh (u) y = Mul (t, two)",
        "e = Exp (x) y = Div (e, other)",
    ],
)
def test_leaves_forms_and_other_functions_alone(body: str) -> None:
    model = frame(body)
    original = model.clone()
    outcome = Gelu().apply(model, make_context())
    assert (outcome.rewrites, outcome.refusals) == (0, ())
    assert operators(model) == operators(original)


@pytest.mark.parametrize(
    ("body", "nearest"),
    [
        (
            "u = Div (x, rough) e = Erf (u) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)",
            "GELU",
        ),
        (ERF + "m = Mul (other, a) y = Mul (m, half)", "GELU"),
        ("u = Div (x, root) e = Erf (u) y = Mul (x, e)", "GELU"),
        ("u = Div (x, root) e = Erf (u) a = Add (e, half) y = Mul (x, a)", "GELU"),
        ("u = Div (x, root) e = Erf (u) a = Add (e, weight) y = Mul (x, a)", "GELU"),
        (TANH.replace("cubic", "wrong") + "h = Mul (x, half) y = Mul (h, a)", "GELU (tanh)"),
        (TANH.replace("ratio", "six") + "h = Mul (x, half) y = Mul (h, a)", "GELU (tanh)"),
        (TANH.replace("one", "half") + "h = Mul (x, half) y = Mul (h, a)", "GELU (tanh)"),
        ("u = Mul (x, other_quick) s = Sigmoid (u) y = Mul (s, x)", "quick GELU"),
    ],
)
def test_refuses(body: str, nearest: str) -> None:
    model = frame(body)
    outcome = Gelu().apply(model, make_context())
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert f"the nearest form is {nearest}, from which" in refusal.reason
    assert refusal.node


def test_the_nearest_node_is_named() -> None:
    model = frame(TANH.replace("cubic", "wrong") + "h = Mul (x, half) y = Mul (h, a)")
    (refusal,) = Gelu().apply(model, make_context()).refusals
    assert "from which Mul y differs by" in refusal.reason


def test_an_argument_that_is_scaled_before() -> None:
    model = frame("z = Mul (other, half) " + SPELLINGS["erf"][0].replace("x", "z"))
    original = model.clone()
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["Mul", "Gelu"])
    assert_equal(original, model)


def test_intermediates_with_other_readers_stay() -> None:
    model = frame(ERF + "m = Mul (x, a) h = Mul (m, half) y = Add (h, e)")
    original = model.clone()
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["Div", "Erf", "Gelu", "Add"])
    assert_equal(original, model)


def test_a_long_residual_stream_is_not_followed() -> None:
    sums = " ".join(f"r{index} = Add (r{index - 1}, other)" for index in range(1, 300))
    gelus = SPELLINGS["erf"][0].replace("x", "r299")
    model = frame(f"r0 = Add (x, other) {sums} {gelus}")
    assert Gelu().apply(model, make_context()).rewrites == 1


def test_half_precision() -> None:
    text = FRAME.replace("float[b, s, 8]", "float16[b, s, 8]")
    names = ("root", "one", "half")
    casts = " ".join(f"{name}_h = Cast <to = 10> ({name})" for name in names)
    body = SPELLINGS["erf"][0]
    for name in names:
        body = body.replace(f", {name})", f", {name}_h)")
    # Constants that are cast when they are used are constants all the same.
    model = parse(text.replace("BODY", f"{casts} {body}"))
    original = model.clone()
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model)["Gelu"] == 1
    assert operators(model)["Erf"] == 0
    assert_equal(original, model, np.float16)


def test_an_island_of_single_precision_keeps_its_casts() -> None:
    text = FRAME.replace("float[b, s, 8]", "float16[b, s, 8]")
    body = SPELLINGS["tanh"][0].replace("x", "w").replace("y =", "z =")
    model = parse(text.replace("BODY", f"w = Cast <to = 1> (x) {body} y = Cast <to = 10> (z)"))
    original = model.clone()
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["Cast", "Gelu", "Cast"])
    assert_equal(original, model, np.float16)


def test_swish_gets_a_form_that_older_sets_have() -> None:
    model = frame("y = Swish (x)")
    model.opset_imports[""] = 24
    assert Gelu().apply(model, make_context()).rewrites == 1
    assert operators(model) == Counter(["Sigmoid", "Mul"])


def test_needs_the_operator_for_gelu_only() -> None:
    for body, rewrites in ((SPELLINGS["erf"][0], 0), (FORMS["silu by exp"][0], 1)):
        model = frame(body)
        model.opset_imports[""] = 17
        outcome = Gelu().apply(model, make_context())
        assert outcome.rewrites == rewrites
        assert [("operator set 20" in item.reason) for item in outcome.refusals] == [True] * (
            1 - rewrites
        )
