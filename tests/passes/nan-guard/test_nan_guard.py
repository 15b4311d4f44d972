"""What the guard's rewrite leaves alone, and rows without a key."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.passes.recover.nan_guard import NanGuard

ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[b, 2, s, t] scores, bool[b, 1, 1, t] keys, float[b, 2, t, 4] v, float other)
  => (float[b, 2, s, 4] y)
<float zero = {0}, float one = {1}, float low = {-inf}>
{
  bias = Where (keys, zero, low)
  masked = Add (scores, bias)
  p = Softmax <axis = -1> (masked)
  empty = IsNaN (p)
  guarded = Where (empty, zero, p)
  y = MatMul (guarded, v)
}
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Where (keys, zero, low)", "Where (keys, zero, other)", "the mask is not Where"),
        ("Where (keys, zero, low)", "Where (keys, low, zero)", "the mask is not Where"),
        ("Where (keys, zero, low)", "Where (keys, one, low)", "the mask is not Where"),
        ("Add (scores, bias)", "Sub (scores, bias)", "the scores have no additive mask"),
        ("Softmax <axis = -1>", "Softmax <axis = 1>", "the softmax is not over the last axis"),
        ("Softmax <axis = -1> (masked)", "Exp (masked)", "the guarded value is no softmax"),
        ("Where (empty, zero, p)", "Where (empty, one, p)", "does not put zero in place of NaN"),
        ("MatMul (guarded, v)", "MatMul (v, guarded)", "other uses than one product"),
        (
            "masked = Add (scores, bias)",
            "causal = Where (keys, zero, low) early = Add (scores, causal) "
            "masked = Add (early, bias)",
            "a second mask is in the scores",
        ),
    ],
)
def test_refuses(old: str, new: str, reason: str) -> None:
    model = parse(ATTENTION.replace(old, new))
    outcome = NanGuard().apply(model, make_context())
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert reason in refusal.reason


def test_rows_without_a_key_stay_zero() -> None:
    model = parse(ATTENTION)
    random = np.random.default_rng(0)
    feed = {
        "scores": random.standard_normal((2, 2, 3, 4), np.float32),
        "keys": np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool).reshape(2, 1, 1, 4),
        "v": random.standard_normal((2, 2, 4, 4), np.float32),
        "other": np.array(0, np.float32),
    }
    (before,) = run_model(model, [feed])
    assert NanGuard().apply(model, make_context()).rewrites == 1
    (after,) = run_model(model, [feed])
    assert not before["y"][1].any()
    assert not after["y"][1].any()
    np.testing.assert_allclose(after["y"], before["y"], rtol=1e-6)


def test_layers_share_one_mask() -> None:
    text = ATTENTION.replace("=> (float[b, 2, s, 4] y)", "=> (float[b, 2, s, 4] z)")
    second = """
  masked2 = Add (bias, scores)
  p2 = Softmax <axis = -1> (masked2)
  empty2 = IsNaN (p2)
  guarded2 = Where (empty2, zero, p2)
  y2 = MatMul (guarded2, v)
  z = Add (y, y2)
}
"""
    model = parse(text.rstrip().removesuffix("}") + second)
    assert NanGuard().apply(model, make_context()).rewrites == 2
    assert [node.op_type for node in model.graph].count("ReduceMax") == 1


def test_the_last_axis_may_be_counted_from_the_first() -> None:
    model = parse(ATTENTION.replace("axis = -1", "axis = 3"))
    softmax = next(node for node in model.graph if node.op_type == "Softmax")
    softmax.outputs[0].shape = ir.Shape(["b", 2, "s", "t"])
    assert NanGuard().apply(model, make_context()).rewrites == 1
