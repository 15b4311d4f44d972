"""Every form gives what the operators give, and ONNX Runtime leaves it as it was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from harness import choosing, loaded_operators, made_up, make_context, run_model
from samples import parse

from burnish.optimizer.contract import ROUNDING, Choice, relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.lower.norm_form import LowerNorm

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
layer (float[batch, sequence, 3] x, float[batch, sequence, 4] r)
  => (float[batch, sequence, 4] y, float[batch, sequence, 4] z)
<
  float[3, 4] w = {0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7, -0.8, 0.9, 1.0, 1.1, 1.2},
  float[4] b = {0.5, -0.5, 1.5, 0.25}, float[4] scale = {1.0, 2.0, 0.5, 1.5}
>
{
  product = MatMul (x, w)
  biased = Add (product, b)
  sum = Add (biased, r)
  y = LayerNormalization <axis = -1, epsilon = 1e-03> (sum, scale, b)
  z = Neg (SHARED)
}
"""
PLAIN = (("SHARED", "r"),)
SHARED = (("SHARED", "sum"),)
ROOT = (("LayerNormalization", "RMSNormalization"), ("scale, b)", "scale)"))
LAYER_OWN, ROOT_OWN = "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"

AT_LOAD = [
    (PLAIN, "as it is", ["MatMul", LAYER_OWN]),
    (PLAIN, "Sum", ["MatMul", "Add", "Sum", "LayerNormalization"]),
    (PLAIN, LAYER_OWN, ["MatMul", LAYER_OWN]),
    (SHARED, "as it is", ["MatMul", "Add", "Add", "LayerNormalization"]),
    (SHARED, "Sum", ["MatMul", "Add", "Sum", "LayerNormalization"]),
    (SHARED, LAYER_OWN, ["MatMul", LAYER_OWN]),
    ((*PLAIN, *ROOT), "as it is", ["MatMul", "Add", "Add", "RMSNormalization"]),
    ((*PLAIN, *ROOT), ROOT_OWN, ["MatMul", ROOT_OWN]),
    ((*SHARED, *ROOT), ROOT_OWN, ["MatMul", ROOT_OWN]),
    ((*PLAIN, ("scale, b)", "scale)")), LAYER_OWN, ["MatMul", LAYER_OWN]),
]
"""What runs besides `Neg`, by model and form."""


def layer(*changes: tuple[str, str]) -> ir.Model:
    text = MODEL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


def running(model: ir.Model) -> list[str]:
    return [name for name in loaded_operators(model) if name != "Neg"]


@pytest.mark.parametrize(("changes", "form", "at_load"), AT_LOAD)
def test_equals_the_operators_and_stays_at_load(
    changes: tuple[tuple[str, str], ...], form: str, at_load: list[str]
) -> None:
    model = layer(*changes)
    lowered = model.clone()
    outcome = LowerNorm().apply(lowered, make_context(choosing(form)))
    assert outcome.rewrites == (form != "as it is")
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    feeds = made_up(model)
    assert feeds
    for mine, theirs in zip(run_model(model, feeds), run_model(lowered, feeds), strict=True):
        for name in ("y", "z"):
            assert relative_l2(mine[name], theirs[name]) <= ROUNDING.rel_l2
    assert sorted(running(lowered)) == sorted(at_load)
    once = lowered.clone()
    assert LowerNorm().apply(lowered, make_context(choosing(form))).rewrites == 0
    assert identical(once, lowered)


@pytest.mark.parametrize(("changes", "form", "at_load"), AT_LOAD)
def test_what_is_timed_is_what_will_run(
    changes: tuple[tuple[str, str], ...], form: str, at_load: list[str]
) -> None:
    seen: list[str] = []

    def choose(key: str, forms: Mapping[str, Callable[[], Any]], rule: str) -> Choice:
        seen.extend(loaded_operators(ir.from_proto(forms[form]())))
        return Choice(form, 1.5, True)

    model = layer(*changes)
    LowerNorm().apply(model, make_context(choose))
    assert sorted(seen) == sorted(running(model))


def test_with_fixed_sizes_the_bias_is_the_products() -> None:
    model = layer(*PLAIN, ("[batch, sequence, 3]", "[2, 5, 3]"), ("batch, sequence", "2, 5"))
    before = model.clone()
    LowerNorm().apply(model, make_context(choosing(LAYER_OWN)))
    assert running(model) == ["Reshape", "Gemm", "Reshape", LAYER_OWN] == running(before)


def test_the_place_in_the_record_tells_all_that_times_depend_on() -> None:
    keys: list[str] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        keys.append(key)
        return Choice(rule, 1.0, False)

    for changes in (SHARED, (*PLAIN, *ROOT), (*PLAIN, ("Add (product, b)", "Neg (product)"))):
        LowerNorm().apply(layer(*changes), make_context(choose))
    assert keys == [
        "residual LayerNormalization ~8x~128x4 shifted bias shared",
        "residual RMSNormalization ~8x~128x4 bias",
        "residual LayerNormalization ~8x~128x4 shifted",
    ]


def test_rules() -> None:
    for provider, changes, operator in (
        ("cpu", PLAIN, "LayerNormalization"),
        ("cpu", (*PLAIN, *ROOT), "RMSNormalization"),
        ("cuda", PLAIN, LAYER_OWN),
        ("cuda", (*SHARED, *ROOT), ROOT_OWN),
    ):
        model = layer(*changes)
        LowerNorm().apply(model, dataclasses.replace(make_context(), provider=provider))
        made = model.graph.outputs[0].producer()
        assert made is not None and made.op_type == operator
    model = layer(*PLAIN)
    context = dataclasses.replace(make_context(), provider="tensorrt")
    assert LowerNorm().apply(model, context).rewrites == 0


@pytest.mark.parametrize(
    "changes",
    [
        [("float[batch, sequence, 4] r", "float[sequence, 4] r")],
        [("axis = -1", "axis = 1"), ("scale, b)", "r)")],
        [("y = LayerN", "y, mean, deviation = LayerN"),
         ("[batch, sequence, 4] z", "[batch, sequence, 1] mean")],
        [("float[4] scale = {1.0, 2.0, 0.5, 1.5}", "int64[1] four = {4}, float[1] other = {1.5}"),
         ("  product =", "  scale = Expand (other, four)\n  product =")],
    ],
    ids=["broadcast", "more axes", "statistics", "computed scale"],
)  # fmt: skip
def test_what_the_fused_operators_cannot_say_is_not_offered(
    changes: list[tuple[str, str]],
) -> None:
    offered: list[str] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        offered.extend(forms)
        return Choice(rule, 1.0, False)

    model = layer(*PLAIN, *changes)
    before = model.clone()
    for provider in ("cpu", "cuda"):
        context = dataclasses.replace(make_context(choose), provider=provider)
        outcome = LowerNorm().apply(model.clone(), context)
        assert outcome.rewrites == (provider == "cpu")
    assert not {LAYER_OWN, ROOT_OWN} & set(offered)
    assert identical(before, model)


def test_refuses_where_nothing_is_faster_and_other_types(bert: ir.Model) -> None:
    outcome = LowerNorm().apply(bert, make_context(lambda *_: Choice("as it is", 0.9, True)))
    assert outcome.rewrites == 0
    reasons = {item.reason for item in outcome.refusals}
    assert reasons == {"no other form is measurably faster (0.90 times)"}
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        half (float16[batch, 4] a, float16[batch, 4] c) => (float16[batch, 4] y)
        <float16[4] scale = {1, 2, 3, 4}>
        { sum = Add (a, c)  y = RMSNormalization (sum, scale) }
    """)
    outcome = LowerNorm().apply(model, dataclasses.replace(make_context(), provider="cuda"))
    assert [item.reason for item in outcome.refusals] == ["it computes in FLOAT16"]


def test_leaves_the_addition_of_a_constant(bert: ir.Model) -> None:
    LowerNorm().apply(bert, make_context())
    made = {node.outputs[0].name: node.op_type for node in bert.graph}
    assert made["layer0.attended"] == made["layer1.fed"] == made["rows"] == "Sum"
    assert made["layer0.q"] == "Add"


@pytest.mark.parametrize("form", ["Sum", LAYER_OWN])
def test_leaves_the_bias_in_an_int8_product(form: str) -> None:
    model = layer(*PLAIN)
    force = make_context(lambda key, forms, rule: Choice("int8", 1.0, False))
    assert DynamicInt8(force=True).apply(model, force).rewrites == 1
    assert LowerNorm().apply(model, make_context(choosing(form))).rewrites == 1
    rest = ["Sum", "LayerNormalization"] if form == "Sum" else [form]
    assert sorted(running(model)) == sorted(["DynamicQuantizeMatMul", *rest])
