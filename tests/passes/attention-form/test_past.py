"""Forms of attentions that keep their keys and values give what the operator gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, make_context, run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.forms import FORMS

INSIDE = """
<ir_version: 11, opset_import: ["" : 23]>
cached (float[b, 4, s, 8] q, float[b, 4, s, 8] k, float[b, 4, s, 8] v,
        float[b, 4, p, 8] old_k, float[b, 4, p, 8] old_v, bool[b, 1, s, t] seen)
  => (float[b, 4, s, 8] y, float[b, 4, t, 8] new_k, float[b, 4, t, 8] new_v)
{ y, new_k, new_v = Attention (q, k, v, seen, old_k, old_v) }
"""

FLAT = """
<ir_version: 11, opset_import: ["" : 23]>
cached (float[b, s, 32] q, float[b, s, 32] k, float[b, s, 32] v,
        float[b, 4, p, 8] old_k, float[b, 4, p, 8] old_v, bool[b, 1, s, t] seen)
  => (float[b, s, 32] y, float[b, 4, t, 8] new_k, float[b, 4, t, 8] new_v)
{ y, new_k, new_v = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, seen, old_k, old_v) }
"""

OUTSIDE = """
<ir_version: 11, opset_import: ["" : 23]>
cached (float[b, s, 32] x, float[b, s, 32] k, float[b, s, 32] v,
        float[b, 4, p, 8] old_k, float[b, 4, p, 8] old_v, int64[b, t] padding)
  => (float[b, s, 32] y, float[b, 4, t, 8] new_k, float[b, 4, t, 8] new_v)
<int64[4] apart = {0, 0, 4, 8}, int64[3] merged = {0, 0, 32}, int64[1] one = {1},
 int64 first = {0}, int64 step = {1}, int64[2] axes = {1, 2}>
{
  xs = Reshape (x, apart)  q = Transpose <perm = [0, 2, 1, 3]> (xs)
  ks = Reshape (k, apart)  kt = Transpose <perm = [0, 2, 1, 3]> (ks)
  vs = Reshape (v, apart)  vt = Transpose <perm = [0, 2, 1, 3]> (vs)
  new_k = Concat <axis = 2> (old_k, kt)
  new_v = Concat <axis = -2> (old_v, vt)
  before = Shape <start = 2, end = 3> (old_k)  past = Squeeze (before)
  length = Shape <start = 1, end = 2> (x)  count = Squeeze (length)
  total = Add (past, count)
  columns = Range (first, total, step)
  rows = Range (past, total, step)  rowed = Unsqueeze (rows, one)
  limit = LessOrEqual (columns, rowed)
  exists = Cast <to = 9> (padding)  keys = Unsqueeze (exists, axes)
  mask = And (limit, keys)
  z = Attention (q, new_k, new_v, mask)
  zt = Transpose <perm = [0, 2, 1, 3]> (z)
  y = Reshape (zt, merged)
}
"""

HEADS = ("MultiHeadAttention",)
CAUSAL = ("MultiHeadAttention", "MultiHeadAttention (causal)")


def limited(text: str) -> str:
    """The model with a causal limit in place of its mask."""
    text = text.replace("seen, old_k", ", old_k")
    if "<q_num" in text:
        return text.replace("<q_num", "<is_causal = 1, q_num")
    return text.replace("Attention (", "Attention <is_causal = 1> (")


def grouped(text: str) -> str:
    """The model with two heads of keys."""
    text = text.replace("b, 4, p", "b, 2, p").replace("b, 4, t", "b, 2, t")
    text = text.replace("float[b, 4, s, 8] k, float[b, 4, s, 8] v", "float[b, 2, s, 8] k, "
                        "float[b, 2, s, 8] v")  # fmt: skip
    text = text.replace("float[b, s, 32] k, float[b, s, 32] v", "float[b, s, 16] k, "
                        "float[b, s, 16] v")  # fmt: skip
    text = text.replace("kv_num_heads = 4", "kv_num_heads = 2")
    text = text.replace("int64[3] merged", "int64[4] few = {0, 0, 2, 8}, int64[3] merged")
    return text.replace("(k, apart)", "(k, few)").replace("(v, apart)", "(v, few)")


def one_query(text: str) -> str:
    return text.replace("b, s,", "b, 1,").replace("4, s,", "4, 1,").replace("2, s,", "2, 1,")


def of_integers(text: str) -> str:
    """The model with caches in int8, in which new keys and values are rounded."""
    for name, old, new in (("k", "old_k", "kt"), ("v", "old_v", "vt")):
        axis = "2" if name == "k" else "-2"
        text = text.replace(
            f"new_{name} = Concat <axis = {axis}> ({old}, {new})",
            f"{new}q = QuantizeLinear ({new}, unit, none) "
            f"new_{name} = Concat <axis = {axis}> ({old}, {new}q) "
            f"all_{name} = DequantizeLinear (new_{name}, unit)",
        )
        for port in (old, f"new_{name}"):
            groups = 4 if f"4, p, 8] {old}" in text else 2
            size = "p" if port == old else "t"
            shape = f"[b, {groups}, {size}, 8] {port}"
            text = text.replace(f"float{shape}", f"int8{shape}")
    text = text.replace("int64[3] merged", "float unit = {1}, int8 none = {0}, int64[3] merged")
    return text.replace("(q, new_k, new_v, mask)", "(q, all_k, all_v, mask)")


CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "inside": (INSIDE, HEADS),
    "inside, flat": (FLAT, HEADS),
    "inside, limited": (limited(INSIDE), CAUSAL),
    "inside, flat, limited": (limited(FLAT), CAUSAL),
    "inside, grouped": (grouped(INSIDE), ()),
    "inside, grouped, limited": (grouped(limited(FLAT)), ()),
    "one query": (one_query(grouped(limited(FLAT))), ("GroupQueryAttention",)),
    "one query, four axes": (one_query(limited(INSIDE)), (*CAUSAL, "GroupQueryAttention")),
    "outside": (OUTSIDE, (*HEADS, "MultiHeadAttention (key padding)")),
    "outside, one query": (one_query(grouped(OUTSIDE)), ("GroupQueryAttention",)),
    "integers": (of_integers(OUTSIDE), HEADS),
    "integers, one query": (
        of_integers(one_query(OUTSIDE)),
        (*HEADS, "GroupQueryAttention"),
    ),
    "integers, grouped, one query": (
        of_integers(one_query(grouped(OUTSIDE))),
        ("GroupQueryAttention",),
    ),
}


def feeds_of(model: ir.Model, past: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(past)
    arrays: dict[str, np.ndarray] = {}
    rows = next(size for size in model.graph.inputs[0].shape or () if size in (1, "s"))
    count = 1 if rows == 1 else 3
    sizes = {"b": 2, "s": 3, "p": past, "t": past + count}
    for value in model.graph.inputs:
        assert value.shape is not None
        shape = [sizes[str(d)] if str(d) in sizes else int(str(d)) for d in value.shape]
        numbers = random.standard_normal(shape) * (3 if value.dtype is ir.DataType.INT8 else 1)
        arrays[value.name or ""] = numbers.astype(
            np.int8 if value.dtype is ir.DataType.INT8 else np.float32
        )
    if "seen" in arrays:
        arrays["seen"] = random.random(arrays["seen"].shape) > 0.4
        arrays["seen"][1, 0, 0] = False
    else:
        arrays["padding"] = np.ones(arrays["padding"].shape, np.int64)
        arrays["padding"][1, : past + 1] = 0
    return arrays


@pytest.mark.parametrize("form", ["products", *CAUSAL, "MultiHeadAttention (key padding)",
                                  "GroupQueryAttention", "Attention with weights"])  # fmt: skip
@pytest.mark.parametrize("case", CASES)
def test_equals_the_operator(form: str, case: str) -> None:
    text, possible = CASES[case]
    model = parse(text)
    lowered = model.clone()
    sizes = {"b": 2, "s": 3, "p": 4, "t": 7}
    outcome = LowerAttention().apply(lowered, make_context(choosing(form), sizes=sizes))
    assert outcome.rewrites == (1 if form in ("products", *possible) else 0)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    feeds = [feeds_of(model, 4), feeds_of(model, 0)]
    pairs = zip(run_model(model, feeds), run_model(lowered, feeds), strict=True)
    for mine, theirs in pairs:
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            assert relative_l2(array, theirs[name]) < 1e-6


def test_no_concat_is_left_where_the_operator_keeps_keys() -> None:
    model = parse(OUTSIDE)
    sizes = {"b": 2, "s": 3, "p": 4, "t": 7}
    LowerAttention().apply(model, make_context(choosing("MultiHeadAttention"), sizes=sizes))
    operators = [node.op_type for node in model.graph]
    assert "Transpose" not in operators[: operators.index("MultiHeadAttention")]
    inputs = [node.inputs[0].name for node in model.graph if node.op_type == "Concat"]  # type: ignore[union-attr]
    assert "old_k" not in inputs


def test_integers_are_read_as_they_are() -> None:
    """Nothing converts the cache any more, also where its ports are read in numbers."""
    text = of_integers(one_query(grouped(OUTSIDE))).replace(
        "z = Att", "also = Neg (all_k)  z = Att"
    )
    model = parse(text.replace("new_v)\n<", "new_v, float[b, 2, t, 8] also)\n<"))
    sizes = {"b": 2, "p": 4, "t": 5}
    before, feed = model.clone(), feeds_of(model, 4)
    choose = choosing("GroupQueryAttention")
    assert LowerAttention().apply(model, make_context(choose, sizes=sizes)).rewrites == 1
    operators = [node.op_type for node in model.graph]
    assert operators.count("DequantizeLinear") == 1  # for the other output
    assert "QuantizeLinear" not in operators
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    mine, theirs = (run_model(item, [feed])[0] for item in (before, model))
    for name, array in mine.items():
        assert relative_l2(array, theirs[name]) < 1e-6


def test_keys_that_others_read_stay() -> None:
    text = OUTSIDE.replace("z = Attention", "other = Shape (new_k)  z = Attention").replace(
        "new_v)\n<", "new_v, int64[4] other)\n<"
    )
    model = parse(text)
    form = "MultiHeadAttention (key padding)"
    sizes = {"b": 2, "s": 3, "p": 4, "t": 7}
    before = model.clone()
    assert LowerAttention().apply(model, make_context(choosing(form), sizes=sizes)).rewrites == 0
    assert identical(before, model)


def test_scores_that_are_given_are_a_reason() -> None:
    model = parse(
        INSIDE.replace("new_v = Att", "new_v, scores = Att").replace(
            "new_v)\n{", "new_v, float[b, 4, s, t] scores)\n{"
        )
    )
    before = model.clone()
    outcome = LowerAttention().apply(model, make_context())
    assert identical(before, model)
    assert "gives its scores" in outcome.refusals[0].reason
    assert set(FORMS) > {"products"}
