"""Attention within a window, block by block, gives what the operator gives with the mask."""

from __future__ import annotations

import resource
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import choosing, make_context, run_model
from onnx_ir.passes.common import RemoveUnusedNodesPass
from samples import parse

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.verify import Checker
from burnish.passes.lower.attention import attention
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.band.band import Band, band_of

BLOCKS, SIZES = "blocks of 64", {"batch": 2, "sequence": 128, "b": 2, "s": 128}

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, s, 32] q, float[b, s, 32] k, float[b, s, 32] v, int64[b, s] padding)
  => (float[b, s, 32] y)
<float zero = {0}, float low = {-inf}, float lowest = {-3e38}, float far = {-1e4},
 int64[2] axes = {1, 2}, int64 first = {0}, int64 step = {1}, int64[1] last = {1},
 int64 four = {4}, int64 two = {2},
 int64 left = {-20}, int64 right = {9}, int64 none = {0}, int64 after = {5}, int64 much = {30}>
{
  length = Shape <start = 1, end = 2> (q)
  count = Squeeze (length)
  places = Range (first, count, step)
  rows = Unsqueeze (places, last)
  distance = Sub (places, rows)
  behind = GreaterOrEqual (distance, left)
  ahead = LessOrEqual (distance, right)
  causal = LessOrEqual (distance, none)
  later = GreaterOrEqual (distance, after)
  early = LessOrEqual (distance, much)
  exists = Cast <to = 9> (padding)
  keys = Unsqueeze (exists, axes)
  near = And (behind, ahead)
  past = And (behind, causal)
  future = And (later, early)
  both = And (near, keys)
  limited = And (past, keys)
  hidden = Where (near, zero, low)
  finite = Where (both, zero, lowest)
  slight = Where (both, zero, far)
  number = Cast <to = 1> (distance)
  size = Abs (number)
  biased = Where (both, size, low)
  start = Less (places, four)
  leading = Less (rows, two)
  around = Or (near, start)
  sinks = And (around, keys)
  reached = Or (behind, start)
  streaming = And (causal, reached)
  anywhere = Or (around, leading)
  global = And (anywhere, keys)
  mask = Identity (near)
  y = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, mask)
}
"""

CALL = "(q, k, v, mask)"
GROUPED = {
    "kv_num_heads = 4": "kv_num_heads = 2",
    "float[b, s, 32] k, float[b, s, 32] v": "float[b, s, 16] k, float[b, s, 16] v",
}
CASES: dict[str, dict[str, str]] = {
    "both sides": {},
    "causal": {CALL: "(q, k, v, past)"},
    "padding": {CALL: "(q, k, v, both)"},
    "causal with padding": {CALL: "(q, k, v, limited)"},
    "numbers": {CALL: "(q, k, v, hidden)"},
    "all keys alike where there are none": {CALL: "(q, k, v, finite)"},
    "a bias": {CALL: "(q, k, v, biased)"},
    "groups of heads": GROUPED,
    "groups of heads with padding": {**GROUPED, CALL: "(q, k, v, both)"},
    "groups of heads, all keys alike": {**GROUPED, CALL: "(q, k, v, finite)"},
    "bounded scores": {"<q_num": "<softcap = 5.0, q_num"},
    "only later keys": {CALL: "(q, k, v, future)"},
    "keys that all see": {CALL: "(q, k, v, sinks)"},
    "keys that all later ones see": {CALL: "(q, k, v, streaming)"},
    "queries that see all": {CALL: "(q, k, v, global)"},
    "groups of heads with queries that see all": {**GROUPED, CALL: "(q, k, v, global)"},
    "a fixed length": {"[b, s": "[b, 100"},
}
LENGTHS = (1, 2, 29, 30, 31, 59, 60, 61, 63, 64, 65, 127, 128, 150, 197)


def build(changes: dict[str, str]) -> ir.Model:
    text = MODEL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return alive(parse(text))


def alive(model: ir.Model) -> ir.Model:
    """The model without the masks that its attentions do not use."""
    RemoveUnusedNodesPass()(model)
    return model


def feed(length: int, batch: int, padding: str, width: int = 32) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(length)
    sizes = {"q": 32, "k": width, "v": width}
    found: dict[str, np.ndarray] = {
        name: generator.standard_normal((batch, length, size), np.float32)
        for name, size in sizes.items()
    }
    mask = np.ones((batch, length), np.int64)
    for row in range(batch):
        hidden = length * (row + 1) // (batch + 1)
        if padding == "right":
            mask[row, length - hidden :] = 0
        elif padding == "left":
            mask[row, :hidden] = 0
        elif padding == "holes":
            mask[row] = generator.random(length) < 0.5
    return found | {"padding": mask}


def rewritten(model: ir.Model, choose: Any = None) -> ir.Model:
    changed = model.clone()
    outcome = LowerAttention().apply(changed, make_context(choose or choosing(BLOCKS), sizes=SIZES))
    assert outcome.rewrites == 1
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    return changed


@pytest.mark.parametrize("case", CASES)
def test_equals_the_operator(case: str) -> None:
    model = build(CASES[case])
    changed = rewritten(model)
    operators = [node.op_type for node in ir.traversal.RecursiveGraphIterator(changed.graph)]
    assert ("If" in operators) is ("fixed" not in case)
    width = 16 if "groups" in case else 32
    lengths = (100,) if "fixed" in case else LENGTHS
    feeds = [
        feed(length, batch, padding, width)
        for length in lengths
        for batch in (1, 3)
        for padding in ("none", "right", "left", "holes")
    ]
    pairs = zip(run_model(model, feeds), run_model(changed, feeds), strict=True)
    for mine, theirs in pairs:
        assert relative_l2(mine["y"], theirs["y"]) < 2e-6


def test_long_inputs() -> None:
    model = build(CASES["causal with padding"])
    feeds = [feed(length, 1, "right") for length in (1025, 4097)]
    pairs = zip(run_model(model, feeds), run_model(rewritten(model), feeds), strict=True)
    for mine, theirs in pairs:
        assert relative_l2(mine["y"], theirs["y"]) < 2e-6


def test_what_hides_but_slightly_is_left() -> None:
    """A query without keys would see all of them, each by its score."""
    model = build({CALL: "(q, k, v, slight)"})
    outcome = LowerAttention().apply(model, make_context(choosing(BLOCKS), sizes=SIZES))
    assert outcome.rewrites == 0


def test_no_window_is_left() -> None:
    model = build({CALL: "(q, k, v, keys)"})
    model = build({CALL: "(q, k, v, causal)"})
    outcome = LowerAttention().apply(model, make_context(choosing(BLOCKS), sizes=SIZES))
    assert outcome.rewrites == 0


def test_slower_blocks_are_refused_with_the_reason() -> None:
    def dense(key: str, forms: Any, rule: str) -> Choice:
        return Choice(next(iter(forms)), 1.02, True)

    outcome = LowerAttention().apply(build({}), make_context(dense, sizes=SIZES))
    assert outcome.rewrites == 0
    assert "window of 30 is not faster in blocks" in outcome.refusals[0].reason


def test_short_inputs_take_the_operator() -> None:
    """Past the length at which blocks were chosen they run, up to it they do not."""
    changed = rewritten(build({}))
    branch = next(node for node in changed.graph if node.op_type == "If")
    greater = branch.inputs[0].producer() if branch.inputs[0] is not None else None
    assert greater is not None and greater.inputs[1] is not None
    limit = ir.convenience.get_const_tensor(greater.inputs[1])
    assert limit is not None and limit.numpy().tolist() == [59]  # below two windows of 30


def test_no_value_is_over_queries_and_keys() -> None:
    """At 20,000 tokens scores of all with all would take 6.4 GB."""
    changed = rewritten(build({CALL: "(q, k, v, both)"}))
    session = onnxruntime.InferenceSession(ir.to_proto(changed).SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    session.run(None, feed(20_000, 1, "right"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000  # kilobytes


def test_layers_share_positions_and_masks() -> None:
    text = MODEL.replace(
        "  y = Attention", "  x = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, mask)\n"
        "  y = Attention"
    ).replace(CALL + "\n}", "(x, k, v, mask)\n}")  # fmt: skip
    model = alive(parse(text))
    changed = model.clone()
    assert (
        LowerAttention().apply(changed, make_context(choosing(BLOCKS), sizes=SIZES)).rewrites == 2
    )
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    inside = [node.op_type for node in changed.graph]
    assert inside.count("If") == 4  # what is shared on either side, and two attentions
    nodes = [node.op_type for node in ir.traversal.RecursiveGraphIterator(changed.graph)]
    assert nodes.count("LessOrEqual") == 3  # one of the mask, two of the blocks
    feeds = [feed(length, 2, "right") for length in (1, 59, 60, 200)]
    pairs = zip(run_model(model, feeds), run_model(changed, feeds), strict=True)
    for mine, theirs in pairs:
        assert relative_l2(mine["y"], theirs["y"]) < 2e-6


@pytest.mark.parametrize("longer", [False, True])
def test_a_wrong_window_shows_in_long_inputs(
    longer: bool, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wide(*given: Any, **named: Any) -> Any:
        band = band_of(*given, **named)
        assert isinstance(band, Band)
        return replace(band, left=band.left + 1)

    monkeypatch.setattr(attention, "band_of", wide)
    model = build({CALL: "(q, k, v, both)"})
    changed = model.clone()
    outcome = LowerAttention().apply(changed, make_context(choosing(BLOCKS), sizes=SIZES))
    assert outcome.lengths == (61,)
    stored = executor.store([feed(24, 2, "right")])
    checker = Checker(executor, stored, longer=lambda n: executor.store([feed(n + 9, 1, "none")]))
    lengths = outcome.lengths if longer else ()
    verdict = checker.check(model, changed, LowerAttention.promise, (), lengths)
    assert bool(verdict.problem) is longer
