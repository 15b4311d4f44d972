"""Every form gives what the operator gives, rows without keys included."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, make_context, run_model
from samples import parse

from burnish.optimizer.contract import Context, relative_l2
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.forms import FORMS

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, s, 32] q, float[b, t, 32] k, float[b, t, 32] v, bool[b, 1, s, t] seen,
           float[b, 1, s, t] given, float[b, 4, s, t] of_heads, int64[b, t] padding)
  => (float[b, s, 32] y)
<float zero = {0}, float low = {-inf}, float lowest = {-3e38}, int64[2] axes = {1, 2},
 int64 first = {0}, int64 step = {1}, int64[1] last = {1}>
{
  mask = Where (seen, zero, low)
  exists = Cast <to = 9> (padding)
  keys = Unsqueeze (exists, axes)
  length = Shape <start = 1, end = 2> (q)
  count = Squeeze (length)
  places = Range (first, count, step)
  rows = Unsqueeze (places, last)
  lengths = Shape <start = 1, end = 2> (k)
  target = Concat <axis = 0> (length, lengths)
  narrow = Where (keys, zero, low)
  hidden = Expand (narrow, target)
  narrower = Where (keys, zero, lowest)
  bounded = Expand (narrower, target)
  counts = Squeeze (lengths)
  columns = Range (first, counts, step)
  before = LessOrEqual (columns, rows)
  both = And (before, keys)
  causal = Where (before, zero, lowest)
  limited = Where (both, zero, low)
  biased = Add (given, limited)
  y = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, mask)
}
"""

CALL = "Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, mask)"
SQUARE = {"s, t]": "s, s]", "b, t": "b, s"}
GROUPED = {"float[b, t, 32] k, float[b, t, 32] v": "float[b, t, 16] k, float[b, t, 16] v"}

CASES: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "a tensor of -inf": (CALL, {}, {"MultiHeadAttention"}),
    "none": (CALL.replace(", mask)", ")"), {}, {"MultiHeadAttention"}),
    "boolean": (CALL.replace("mask)", "seen)"), {}, {"MultiHeadAttention"}),
    "numbers and -inf": (CALL.replace("mask)", "given)"), {}, {"MultiHeadAttention"}),
    "numbers by heads": (CALL.replace("mask)", "of_heads)"), {}, {"MultiHeadAttention"}),
    "capped": (CALL.replace("<", "<softcap = 5.0, "), {}, set()),
    "grouped": (CALL.replace("kv_num_heads = 4", "kv_num_heads = 2"), GROUPED, set()),
    "one head of keys": (
        CALL.replace("kv_num_heads = 4", "kv_num_heads = 1"),
        {"t, 32] k": "t, 8] k", "t, 32] v": "t, 8] v"},
        set(),
    ),
    "attribute": (
        CALL.replace("<", "<is_causal = 1, ").replace(", mask)", ")"),
        SQUARE,
        {"MultiHeadAttention", "MultiHeadAttention (causal)", "GroupQueryAttention"},
    ),
    "attribute and tensor": (
        CALL.replace("<", "<is_causal = 1, "),
        SQUARE,
        {"MultiHeadAttention", "GroupQueryAttention"},
    ),
    "attribute, of unlike lengths": (
        CALL.replace("<", "<is_causal = 1, "),
        {},
        {"MultiHeadAttention"},
    ),
    "padding": (
        CALL.replace("mask)", "hidden)"),
        SQUARE,
        {"MultiHeadAttention", "MultiHeadAttention (key padding)"},
    ),
    "padding by a finite number": (
        CALL.replace("mask)", "bounded)"),
        SQUARE,
        {"MultiHeadAttention", "MultiHeadAttention (key padding)"},
    ),
    "causal": (
        CALL.replace("mask)", "causal)"),
        SQUARE,
        {"MultiHeadAttention", "MultiHeadAttention (causal)", "GroupQueryAttention"},
    ),
    "causal and padding": (
        CALL.replace("mask)", "both)"),
        SQUARE,
        {"MultiHeadAttention", "MultiHeadAttention (key padding)", "GroupQueryAttention"},
    ),
    "causal, padding and numbers": (
        CALL.replace("mask)", "biased)"),
        SQUARE,
        {"MultiHeadAttention", "GroupQueryAttention"},
    ),
    "causal, grouped, capped": (
        "Attention <q_num_heads = 4, kv_num_heads = 2, softcap = 3.0> (q, k, v, both)",
        GROUPED | SQUARE,
        {"GroupQueryAttention"},
    ),
}
"""By mask: the call, what else changes in the model, and the forms besides the products."""


def sizes(**numbers: int) -> dict[str, int]:
    return {"b": 3, "s": 5, "t": 6} | numbers


def model_of(case: str) -> ir.Model:
    call, changes, _ = CASES[case]
    text = MODEL.replace(CALL, call)
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse(text)


def feed(model: ir.Model) -> dict[str, np.ndarray]:
    """Random inputs; one row of the batch sees nothing, one query of another neither."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        shape = [sizes().get(str(size)) or int(str(size)) for size in value.shape]
        arrays[value.name or ""] = random.standard_normal(shape).astype(np.float32)
    seen = random.random(arrays["seen"].shape) > 0.4
    seen[1, 0, 3] = False
    seen[2] = False
    arrays["seen"] = seen
    arrays["given"] = np.where(seen, arrays["given"], -np.inf).astype(np.float32)
    padding = np.ones(arrays["padding"].shape, np.int64)
    padding[1, :2] = 0
    padding[2] = 0
    arrays["padding"] = padding * 3  # whatever is not 0 exists
    return arrays


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_operator(form: str, case: str) -> None:
    model = model_of(case)
    lowered = model.clone()
    outcome = LowerAttention().apply(lowered, make_context(choosing(form), sizes=sizes()))
    possible = {"products", *CASES[case][2]}
    assert outcome.rewrites == (1 if form in possible else 0)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    feeds = [feed(model)]
    mine, theirs = run_model(model, feeds)[0]["y"], run_model(lowered, feeds)[0]["y"]
    assert np.isfinite(theirs).all()
    assert relative_l2(mine, theirs) < 1e-6
    for row in range(3):  # rows of zeros hide no error of others
        assert relative_l2(mine[row], theirs[row]) < 1e-6


def test_other_providers_are_left_alone_without_a_rule() -> None:
    model = parse(MODEL)
    context = make_context()
    outcome = LowerAttention().apply(model, Context(**{**vars(context), "provider": "dml"}))
    assert outcome.rewrites == 0


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("causal", "MultiHeadAttention (causal)"),
        ("causal and padding", "MultiHeadAttention"),
        ("causal, grouped, capped", "products"),
    ],
)
def test_rules_for_gpus(case: str, rule: str) -> None:
    context = Context(**{**vars(make_context(sizes=sizes())), "provider": "cuda"})
    assert LowerAttention().apply(model_of(case), context).detail == f"attentions: 1 as {rule}"


@pytest.mark.parametrize("form", ["products", "MultiHeadAttention"])
def test_masks_are_made_once_for_all_layers(form: str) -> None:
    again = f"{CALL}  z = {CALL.replace('(q', '(y')}"
    text = MODEL.replace(CALL, again).replace("float[b, s, 32] y)", "float[b, s, 32] z)")
    model = parse(text)
    assert LowerAttention().apply(model, make_context(choosing(form), sizes=sizes())).rewrites == 2
    operators = [node.op_type for node in model.graph]
    assert operators.count("ReduceMax") == 1
    assert operators.count("Expand") == 2 + (form == "MultiHeadAttention")
