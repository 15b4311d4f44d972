"""Attention within a window over a cache: only the keys that the window reaches are read."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.lower.attention.attention import LowerAttention

SIZES = {"batch": 2, "sequence": 128, "b": 2, "s": 128, "p": 0, "t": 128}

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, 4, s, 8] q, float[b, 2, s, 8] k, float[b, 2, s, 8] v,
           float[b, 2, p, 8] past_key, float[b, 2, p, 8] past_value)
  => (float[b, 4, s, 8] y, float[b, 2, t, 8] keys, float[b, 2, t, 8] values)
<int64 left = {-20}, int64 none = {0}, int64 first = {0}, int64 step = {1}, int64[1] last = {1}>
{
  length = Shape <start = 2, end = 3> (q)
  before = Shape <start = 2, end = 3> (past_key)
  count = Squeeze (length)
  earlier = Squeeze (before)
  total = Add (count, earlier)
  columns = Range (first, total, step)
  places = Range (earlier, total, step)
  rows = Unsqueeze (places, last)
  distance = Sub (columns, rows)
  behind = GreaterOrEqual (distance, left)
  causal = LessOrEqual (distance, none)
  mask = And (behind, causal)
  y, keys, values = Attention (q, k, v, mask, past_key, past_value)
}
"""

OUTSIDE = {
    "  y, keys, values = Attention (q, k, v, mask, past_key, past_value)\n": (
        "  keys = Concat <axis = 2> (past_key, k)\n"
        "  values = Concat <axis = 2> (past_value, v)\n"
        "  y = Attention (q, keys, values, mask)\n"
    )
}


def feed(length: int, past: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(length + past)
    shapes = {"q": (2, 4, length, 8), "k": (2, 2, length, 8), "v": (2, 2, length, 8)}
    shapes |= {"past_key": (2, 2, past, 8), "past_value": (2, 2, past, 8)}
    return {name: generator.standard_normal(sizes, np.float32) for name, sizes in shapes.items()}


@pytest.mark.parametrize("changes", [{}, OUTSIDE], ids=["inside", "outside"])
def test_equals_the_operator(changes: dict[str, str]) -> None:
    text = MODEL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    model = parse(text)
    changed = model.clone()
    outcome = LowerAttention().apply(changed, make_context(choosing("blocks of 64"), sizes=SIZES))
    assert outcome.rewrites == 1
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    assert "If" in [node.op_type for node in changed.graph]
    feeds = [
        feed(length, past)
        for length in (1, 2, 20, 21, 22, 64, 65, 150)
        for past in (0, 1, 19, 20, 21, 40, 41, 42, 100)
    ]
    pairs = zip(run_model(model, feeds), run_model(changed, feeds), strict=True)
    for mine, theirs in pairs:
        for name in ("y", "keys", "values"):
            assert relative_l2(mine[name], theirs[name]) < 2e-6
