"""Attention in chunks of queries gives what the operator gives, whatever the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context, ruled, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.lower.attention import attention
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.band.chunks import InChunks

LONG = {"batch": 1, "sequence": 20_000, "b": 1, "s": 20_000}
"""Sizes at which scores take 6.4 GB."""

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, s, 32] q, float[b, s, 32] k, float[b, s, 32] v, int64[b, s] padding)
  => (float[b, s, 32] y)
<float zero = {0}, float lowest = {-3e38}, int64[2] axes = {1, 2}, int64 first = {0},
 int64 step = {1}, int64[1] last = {1}>
{
  exists = Cast <to = 9> (padding)
  keys = Unsqueeze (exists, axes)
  length = Shape <start = 1, end = 2> (q)
  count = Squeeze (length)
  places = Range (first, count, step)
  rows = Unsqueeze (places, last)
  before = LessOrEqual (places, rows)
  causal = And (before, keys)
  target = Concat <axis = 0> (length, length)
  number = Where (keys, zero, lowest)
  finite = Expand (number, target)
  padded = Expand (keys, target)
  y = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, causal)
}
"""
CALL = "(q, k, v, causal)"
GROUPED = {
    "kv_num_heads = 4": "kv_num_heads = 2",
    "float[b, s, 32] k, float[b, s, 32] v": "float[b, s, 16] k, float[b, s, 16] v",
}
CASES: dict[str, dict[str, str]] = {
    "causal with padding": {},
    "no mask": {CALL: "(q, k, v)"},
    "causal by an attribute": {CALL: "(q, k, v)", "<q_num": "<is_causal = 1, q_num"},
    "padding": {CALL: "(q, k, v, padded)"},
    "all keys alike where there are none": {CALL: "(q, k, v, finite)"},
    "groups of heads": GROUPED,
}


def build(changes: dict[str, str]) -> ir.Model:
    text = MODEL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return parse(text)


def feed(length: int, width: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(length)
    found: dict[str, np.ndarray] = {
        name: generator.standard_normal((2, length, size), np.float32)
        for name, size in {"q": 32, "k": width, "v": width}.items()
    }
    mask = np.ones((2, length), np.int64)
    mask[1, : length // 2] = 0
    return found | {"padding": mask}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_operator(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNKS", InChunks(20_000))
    model = build(CASES[case])
    changed = model.clone()
    outcome = LowerAttention().apply(changed, make_context(ruled, sizes=LONG))
    assert "1 as chunks of queries" in outcome.detail
    assert outcome.lengths == (35,)
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    width = 16 if "groups" in case else 32
    feeds = [feed(length, width) for length in (1, 7, 24, 25, 26, 60, 131)]
    pairs = zip(run_model(model, feeds), run_model(changed, feeds), strict=True)
    for mine, theirs in pairs:
        assert relative_l2(mine["y"], theirs["y"]) < 2e-6


def test_shorter_inputs_are_left_at_once() -> None:
    sizes: dict[str, Any] = {"batch": 1, "sequence": 2000, "b": 1, "s": 2000}
    outcome = LowerAttention().apply(build({}), make_context(ruled, sizes=sizes))
    assert outcome.rewrites == 0
