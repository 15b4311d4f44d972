"""What is no attention, what is left alone, and rows without keys."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.recover.attention.attention import RecoverAttention

ATTENTION = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, 2, s, 4] q, float[b, 2, t, 4] k, float[b, 2, t, 4] v, float[b, 2, s, t] other,
           bool[b, 1, s, t] seen)
  => (float[b, 2, s, 4] y)
<float half = {0.5}, float zero = {0}, float low = {-3.4028235e38}, float[4, 4] weight = {
  1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{
  turned = Transpose <perm = [0, 1, 3, 2]> (k)
  product = MatMul (q, turned)
  scaled = Mul (product, half)
  mask = Where (seen, zero, low)
  scores = Add (scaled, mask)
  p = Softmax <axis = -1> (scores)
  y = MatMul (p, v)
}
"""


def changed(*pairs: tuple[str, str]) -> ir.Model:
    text = ATTENTION
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("axis = -1", "axis = 2", "not over the last axis"),
        ("y = MatMul (p, v)", "z = Mul (p, other) y = MatMul (z, v)", "changes its probabilities"),
        (
            "y = MatMul (p, v)",
            "a = MatMul (p, v) b = MatMul (p, q) y = Add (a, b)",
            "read by 2 nodes",
        ),
        ("Mul (product, half)", "Mul (product, other)", "multiplied by what is no constant"),
        ("Mul (product, half)", "Div (product, other)", "divided by what is no constant"),
        ("{0.5}", "{-0.5}", "multiplied by -0.5"),
        ("y = MatMul (p, v)", "y = MatMul (p, weight)", "its values are constant"),
        ('"" : 23', '"" : 22', "operator set 22 has no Attention"),
        ("scores = Add (scaled, mask)", "scores = Where (seen, scaled, half)", "puts 0.5 among"),
    ],
)
def test_refuses_with_the_node(old: str, new: str, reason: str) -> None:
    model = changed((old, new), *([("float[b, 2, t, 4] v", "float[b, 2, 4, 4] v")][:0]))
    before = model.clone()
    outcome = RecoverAttention().apply(model, make_context())
    assert outcome.rewrites == 0
    assert identical(before, model)
    (refusal,) = outcome.refusals
    assert reason in refusal.reason
    assert "(at " in refusal.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("product = MatMul (q, turned)", "product = MatMul (q, weight)"),  # a router, or classes
        ("y = MatMul (p, v)", "z = Relu (p) y = Slice_ (z)"),
    ],
)
def test_other_softmaxes_are_none(old: str, new: str) -> None:
    model = changed((old, new.replace("y = Slice_ (z)", "y = Add (z, v)")))
    assert RecoverAttention().apply(model, make_context()).refusals == ()


def feed(seen: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    batch, _, queries, keys = seen.shape
    shapes = {"q": queries, "k": keys, "v": keys}
    arrays = {
        name: random.standard_normal((batch, 2, count, 4)).astype(np.float32)
        for name, count in shapes.items()
    }
    other = np.zeros((batch, 2, queries, keys), np.float32)
    return {**arrays, "other": other, "seen": seen}


@pytest.mark.parametrize(
    "mask",
    [
        "mask = Where (seen, zero, low)",
        "m = Cast <to = 1> (seen) one = Constant <value_float = 1.0> () i = Sub (one, m) "
        "mask = Mul (i, low)",
    ],
)
def test_a_row_without_keys_stays_the_mean(mask: str) -> None:
    """A softmax of equal scores is the mean; kernels give zero for a row of lowest numbers."""
    model = changed(("mask = Where (seen, zero, low)", mask))
    before = model.clone()
    assert RecoverAttention().apply(model, make_context()).rewrites == 1
    seen = np.random.default_rng(1).random((3, 1, 5, 7)) > 0.4
    seen[1, 0, 2] = False
    feeds = [feed(seen)]
    mine, theirs = run_model(before, feeds)[0]["y"], run_model(model, feeds)[0]["y"]
    assert np.abs(mine[1, :, 2] - feeds[0]["v"][1].mean(axis=1)).max() < 1e-5
    assert relative_l2(mine, theirs) < 1e-6


def test_a_guarded_row_without_keys_is_zero() -> None:
    model = changed(
        ("{-3.4028235e38}", "{-inf}"),
        ("y = MatMul (p, v)", "n = IsNaN (p) g = Where (n, zero, p) y = MatMul (g, v)"),
    )
    before = model.clone()
    assert RecoverAttention().apply(model, make_context()).rewrites == 1
    seen = np.ones((2, 1, 3, 4), bool)
    seen[0, 0, 1] = False
    feeds = [feed(seen)]
    mine, theirs = run_model(before, feeds)[0]["y"], run_model(model, feeds)[0]["y"]
    assert not theirs[0, :, 1].any()
    assert relative_l2(mine, theirs) < 1e-6
