"""Every form gives what the operator gives, rows without keys included."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.lower.attention.attention import FORMS, LowerAttention

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, s, 16] q, float[b, t, 16] k, float[b, t, 16] v, bool[b, 1, s, t] seen,
           float[b, 1, s, t] given)
  => (float[b, s, 16] y)
<float zero = {0}, float low = {-inf}>
{
  mask = Where (seen, zero, low)
  y = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, mask)
}
"""


def choosing(form: str) -> Any:
    return lambda key, forms, rule: Choice(form if form in forms else "Attention", 1.0, False)


def feed(model: ir.Model, keys: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    seen = random.random((2, 1, 5, keys)) > 0.4
    seen[1, 0, 3] = False
    seen[:, :, range(5), range(5)] |= np.arange(5) != 3  # the diagonal, but for one row
    seen[1, 0, 3] = False
    given = np.where(seen, random.standard_normal(seen.shape), -np.inf).astype(np.float32)
    arrays: dict[str, np.ndarray] = {"seen": seen, "given": given}
    for value in model.graph.inputs[:3]:
        assert value.shape is not None
        sizes = {"b": 2, "s": 5, "t": keys}
        shape = [sizes[str(d)] if str(d) in sizes else int(str(d)) for d in value.shape]
        arrays[value.name or ""] = random.standard_normal(shape).astype(np.float32)
    return arrays


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mask)", "mask)"),
        ("(q, k, v, mask)", "(q, k, v)"),
        ("(q, k, v, mask)", "(q, k, v, seen)"),
        ("(q, k, v, mask)", "(q, k, v, given)"),
        ("q_num_heads", "is_causal = 1, q_num_heads"),
        ("(q, k, v, mask)", "(q, k, v)"),
        ("q_num_heads", "softcap = 5.0, q_num_heads"),
        ("kv_num_heads = 4", "kv_num_heads = 2"),
        ("kv_num_heads = 4", "kv_num_heads = 1"),
    ],
)
def test_equals_the_operator(form: str, old: str, new: str) -> None:
    text = MODEL.replace(old, new)
    for groups, width in (("= 2>", 8), ("= 1>", 4)):
        if f"kv_num_heads {groups}" in text:
            text = text.replace("t, 16]", f"t, {width}]")
    model = parse(text)
    lowered = model.clone()
    outcome = LowerAttention().apply(lowered, make_context(choosing(form)))
    left = [node for node in lowered.graph if node.op_type == "Attention"]
    assert outcome.rewrites == 1 - len(left)
    feeds = [feed(model)]
    mine, theirs = run_model(model, feeds)[0]["y"], run_model(lowered, feeds)[0]["y"]
    assert np.isfinite(theirs).all()
    assert relative_l2(mine, theirs) < 1e-6


def test_leaves_what_keeps_its_keys() -> None:
    model = parse("""
        <ir_version: 11, opset_import: ["" : 23]>
        cached (float[b, 2, s, 4] q, float[b, 2, s, 4] k, float[b, 2, s, 4] v,
                float[b, 2, p, 4] old_k, float[b, 2, p, 4] old_v)
          => (float[b, 2, s, 4] y, float[b, 2, t, 4] new_k, float[b, 2, t, 4] new_v)
        { y, new_k, new_v = Attention (q, k, v, , old_k, old_v) }
    """)
    before = model.clone()
    outcome = LowerAttention().apply(model, make_context())
    assert identical(before, model)
    assert "keeps keys and values" in outcome.refusals[0].reason


def test_other_providers_are_left_alone_without_a_rule() -> None:
    model = parse(MODEL)
    context = make_context()
    outcome = LowerAttention().apply(model, type(context)(**{**vars(context), "provider": "dml"}))
    assert outcome.rewrites == 0


def test_masks_are_made_once_for_all_layers() -> None:
    text = MODEL.replace(
        "(q, k, v, mask)",
        "(q, k, v, mask)  z = Attention <q_num_heads = 4, kv_num_heads = 4> (y, k, v, mask)",
    ).replace("float[b, s, 16] y)", "float[b, s, 16] z)")
    model = parse(text)
    assert LowerAttention().apply(model, make_context()).rewrites == 2
    assert [node.op_type for node in model.graph].count("ReduceMax") == 1
