"""What the tuner times: one region in all forms, with the same inputs and the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.forms import AS_IT_IS
from burnish.optimizer.tuner import _normal_feed
from burnish.passes.lower.attention.attention import LowerAttention

SPLIT = """
  sq = Reshape (q, apart)  hq = Transpose <perm = [0, 2, 1, 3]> (sq)
  sk = Reshape (k, apart)  hk = Transpose <perm = [0, 2, 1, 3]> (sk)
  sv = Reshape (v, apart)  hv = Transpose <perm = [0, 2, 1, 3]> (sv)
"""
MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
layer (float[batch, sequence, 32] x, float[batch, sequence, 32] q, float[batch, sequence, 32] k,
       float[batch, sequence, 32] v, bool[batch, 1, sequence, sequence] seen,
       int64[batch, sequence] padding, float[batch, 4, past, 8] old_k,
       float[batch, 4, past, 8] old_v, int8[batch, 4, past, 8] int_k,
       int8[batch, 4, past, 8] int_v)
  => (OUTPUTS)
<int64[4] apart = {0, 0, 4, 8}, int64[2] axes = {1, 2}, float unit = {1}, int8 none = {0}>
{ BODY }
"""
FLAT = "float[batch, sequence, 32] y"
APART = "float[batch, 4, sequence, 8] y"
KEPT = ", float[batch, 4, total, 8] new_k, float[batch, 4, total, 8] new_v"
HEADS = "q_num_heads = 4, kv_num_heads = 4"

BODIES = {
    "masked": (FLAT, f"y = Attention <{HEADS}> (q, k, v, seen)"),
    "padded": (
        FLAT,
        "exists = Cast <to = 9> (padding) keys = Unsqueeze (exists, axes) "
        f"mask = And (seen, keys) y = Attention <{HEADS}> (q, k, v, keys)",
    ),
    "causal": (FLAT, f"y = Attention <is_causal = 1, {HEADS}> (q, k, v)"),
    "causal, masked": (FLAT, f"y = Attention <is_causal = 1, {HEADS}> (q, k, v, seen)"),
    "split": (APART, f"{SPLIT} y = Attention (hq, hk, hv, seen)"),
    "past": (
        APART + KEPT,
        f"{SPLIT} y, new_k, new_v = Attention <is_causal = 1> (hq, hk, hv, , old_k, old_v)",
    ),
    "past, outside": (
        APART,
        f"{SPLIT} ck = Concat <axis = 2> (old_k, hk) cv = Concat <axis = 2> (old_v, hv) "
        "y = Attention (hq, ck, cv)",
    ),
    "one query": (
        APART,
        f"{SPLIT} ck = Concat <axis = 2> (old_k, hk) cv = Concat <axis = 2> (old_v, hv) "
        "y = Attention (hq, ck, cv, seen)",
    ),
    "one query, int8": (
        APART,
        f"{SPLIT} ik = QuantizeLinear (hk, unit, none) iv = QuantizeLinear (hv, unit, none) "
        "ck = Concat <axis = 2> (int_k, ik) cv = Concat <axis = 2> (int_v, iv) "
        "fk = DequantizeLinear (ck, unit) fv = DequantizeLinear (cv, unit) "
        "y = Attention (hq, fk, fv, seen)",
    ),
    "products": (
        FLAT,
        "mq = MatMul (x, wq) mk = MatMul (x, wk) mv = MatMul (x, wv) bq = Add (mq, bias) "
        f"y = Attention <{HEADS}> (bq, mk, mv, seen)",
    ),
}


def sampled(body: str) -> dict[str, onnx.ModelProto]:
    """The models that a chooser is offered, by form."""
    ports, text = BODIES[body]
    whole = MODEL.replace("OUTPUTS", ports).replace("BODY", text)
    if body.startswith("one query"):
        whole = whole.replace("sequence", "1").replace("1, 1, 1] seen", "1, 1, 4] seen")
    parsed = onnx.parser.parse_model(whole)
    for name in ("wq", "wk", "wv", "bias"):
        array = np.ones((32, 32) if name != "bias" else (32,), np.float32)
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    offered: dict[str, onnx.ModelProto] = {}

    def choose(key: str, forms: Any, rule: str) -> Choice:
        offered.update({name: build() for name, build in forms.items()})
        return Choice(AS_IT_IS, 1.0, False)

    sizes = {"batch": 2, "sequence": 5, "past": 3, "total": 8}
    LowerAttention().apply(ir.from_proto(parsed), make_context(choose, sizes=sizes))
    return offered


def ports(message: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(item.name, str(item.type)) for item in (*message.graph.input, *message.graph.output)]


@pytest.mark.parametrize("body", BODIES)
def test_forms_have_one_interface_and_one_answer(body: str) -> None:
    offered = sampled(body)
    assert next(iter(offered)) == AS_IT_IS and len(offered) >= 3
    assert "one query" not in body or "GroupQueryAttention" in offered
    first = offered[AS_IT_IS]
    feed = _normal_feed(first)
    for name, kind in (("mask", bool), ("narrow", np.float32), ("whole", np.float32)):
        if name in feed:
            feed[name] = (np.ones if kind is bool else np.zeros)(feed[name].shape, kind)
            if body == "causal" or (body == "causal, masked" and kind is not bool):
                feed[name] = np.triu(np.full(feed[name].shape, -1e38, np.float32), 1)
            if body == "past":
                feed[name] = np.triu(np.full(feed[name].shape, -1e38, np.float32), 4)
    feed |= {name: np.ones_like(feed[name]) for name in ("alive", "keys") if name in feed}
    wanted = run_model(ir.from_proto(first), [feed])[0]
    for message in offered.values():
        onnx.checker.check_model(message, full_check=True)
        assert ports(message) == ports(first)
        for name, array in run_model(ir.from_proto(message), [feed])[0].items():
            assert relative_l2(wanted[name], array) < 2e-6


def test_products_are_in_all_forms() -> None:
    offered = sampled("products")
    assert "Attention with weights" in offered
    for name, message in offered.items():
        operators = [node.op_type for node in message.graph.node]
        products = 0 if "weights" in name else 3 + (name == "products")
        assert operators.count("MatMul") == products


def test_sizes_that_are_not_known_leave_the_rule() -> None:
    model = parse(
        MODEL.replace("OUTPUTS", FLAT).replace("BODY", BODIES["masked"][1]).replace("sequence", "n")
    )
    outcome = LowerAttention().apply(model, make_context())
    assert outcome.rewrites == 0
    assert "by rule" in outcome.refusals[0].reason
