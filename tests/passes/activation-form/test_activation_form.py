"""Every form gives what the operators give, and ONNX Runtime leaves it as it was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, loaded_operators, made_up, make_context, run_model
from samples import parse

from burnish.optimizer.contract import ROUNDING, Choice, relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.compress.fast_gelu import FastGelu
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.lower.activation.activation import LowerActivation

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
layer (float[batch, sequence, 6] x) => (float[batch, sequence, 4] y)
<float[6, 4] w = {WEIGHT}, float[4] b = {0.5, -0.5, 1.5, 0.25}, float quick = {1.702}>
{
  product = MatMul (x, w)
  sum = Add (product, b)
  ACTIVATION
}
"""

ACTIVATIONS = {
    "gelu-erf": "y = Gelu (sum)",
    "gelu-tanh": 'y = Gelu <approximate = "tanh"> (sum)',
    "quick-gelu": "scaled = Mul (sum, quick) gate = Sigmoid (scaled) y = Mul (sum, gate)",
}

AT_LOAD = {
    ("gelu-erf", "as it is"): ["MatMul", "BiasGelu"],
    ("gelu-erf", "apart"): ["MatMul", "Sum", "Gelu"],
    ("gelu-erf", "Gemm"): ["Reshape", "Gemm", "Reshape", "Gelu"],
    ("gelu-erf", "BiasGelu"): ["MatMul", "BiasGelu"],
    ("gelu-tanh", "as it is"): ["MatMul", "FastGelu"],
    ("gelu-tanh", "apart"): ["MatMul", "Sum", "Gelu"],
    ("gelu-tanh", "Gemm"): ["Reshape", "Gemm", "Reshape", "Gelu"],
    ("gelu-tanh", "FastGelu"): ["MatMul", "FastGelu"],
    ("quick-gelu", "as it is"): ["MatMul", "Add", "QuickGelu"],
    ("quick-gelu", "apart"): ["MatMul", "Add", "Div", "Sigmoid", "Mul"],
    ("quick-gelu", "Gemm"): ["Reshape", "Gemm", "Reshape", "QuickGelu"],
    ("quick-gelu", "QuickGelu"): ["MatMul", "Add", "QuickGelu"],
}
"""What runs, by kind and form: what is chosen, and what ONNX Runtime makes where nothing is."""


def layer(kind: str, *changes: tuple[str, str]) -> ir.Model:
    weight = np.random.default_rng(0).standard_normal(24).round(3)
    text = MODEL.replace("ACTIVATION", ACTIVATIONS[kind])
    text = text.replace("WEIGHT", ", ".join(map(str, weight)))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


@pytest.mark.parametrize(("kind", "form"), AT_LOAD)
def test_equals_the_operators_and_stays_at_load(kind: str, form: str) -> None:
    model = layer(kind)
    lowered = model.clone()
    outcome = LowerActivation().apply(lowered, make_context(choosing(form)))
    assert outcome.rewrites == (form != "as it is")
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    feeds = made_up(model)
    assert feeds
    for mine, theirs in zip(run_model(model, feeds), run_model(lowered, feeds), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) <= ROUNDING.rel_l2
    operators = [name for name in loaded_operators(lowered) if name not in ("Shape", "Concat")]
    assert operators == AT_LOAD[kind, form]
    once = lowered.clone()
    assert LowerActivation().apply(lowered, make_context(choosing(form))).rewrites == 0
    assert identical(once, lowered)


@pytest.mark.parametrize(("kind", "form"), AT_LOAD)
def test_what_is_timed_is_what_will_run(kind: str, form: str) -> None:
    samples: dict[str, list[str]] = {}

    def choose(key: str, forms: Mapping[str, Callable[[], Any]], rule: str) -> Choice:
        samples[form] = loaded_operators(ir.from_proto(forms[form]()))
        return Choice(form, 1.5, True)

    model = layer(kind)
    LowerActivation().apply(model, make_context(choose))
    assert samples[form] == loaded_operators(model)


def test_with_fixed_sizes_the_bias_goes_into_the_product_by_itself() -> None:
    seen: list[tuple[str, list[str], str]] = []

    def choose(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        seen.append((key, list(forms), rule))
        operators = loaded_operators(ir.from_proto(forms["as it is"]()))
        assert operators == ["Reshape", "Gemm", "Reshape", "Gelu"] == loaded_operators(model)
        return Choice(rule, 1.0, False)

    model = layer("gelu-erf", ("[batch, sequence, 6]", "[2, 5, 6]"), ("[batch, sequence", "[2, 5"))
    assert LowerActivation().apply(model, make_context(choose)).rewrites == 0
    assert seen == [
        ("gelu-erf 2x5x6 n=4 bias", ["as it is", "apart", "BiasGelu"], "as it is"),
    ]


def test_the_place_in_the_record_tells_kind_sizes_and_bias() -> None:
    keys: list[str] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        keys.append(key)
        return Choice(rule, 1.0, False)

    LowerActivation().apply(layer("gelu-tanh"), make_context(choose))
    assert keys == ["gelu-tanh ~8x~128x6 n=4 bias"]


def test_unknown_sizes_are_not_measured() -> None:
    def choose(key: str, forms: Any, rule: str) -> Choice:
        raise AssertionError("nothing is known to measure")

    model = layer("gelu-erf", ("[batch, sequence, 6]", "[rows, length, 6]"),
                  ("[batch, sequence", "[rows, length"))  # fmt: skip
    assert LowerActivation().apply(model, make_context(choose)).rewrites == 1
    assert loaded_operators(model) == ["MatMul", "Sum", "Gelu"]


@pytest.mark.parametrize(
    ("kind", "operator"),
    [("gelu-erf", "BiasGelu"), ("gelu-tanh", "FastGelu"), ("quick-gelu", "QuickGelu")],
)
def test_rules_on_a_gpu(kind: str, operator: str) -> None:
    model = layer(kind)
    context = dataclasses.replace(make_context(), provider="cuda")
    assert LowerActivation().apply(model, context).rewrites == 1
    made = model.graph.outputs[0].producer()
    assert made is not None and (made.domain, made.op_type) == ("com.microsoft", operator)
    feeds = made_up(layer(kind))
    assert [item["y"].shape for item in run_model(model, feeds)]


def test_other_providers_are_left_alone_without_a_rule() -> None:
    model = layer("gelu-erf")
    context = dataclasses.replace(make_context(choosing("apart")), provider="tensorrt")
    assert LowerActivation().apply(model, context).rewrites == 0


def test_the_exact_form_gets_the_tanh_kernel_only_where_that_is_asked_for() -> None:
    model = layer("gelu-erf")
    LowerActivation().apply(model, make_context(choosing("FastGelu")))
    assert "FastGelu" not in loaded_operators(model)
    asked = layer("gelu-erf")
    assert FastGelu().apply(asked, make_context()).rewrites == 1
    assert FastGelu().apply(asked, make_context()).rewrites == 0
    LowerActivation().apply(asked, make_context(choosing("FastGelu")))
    assert "FastGelu" in loaded_operators(asked)


def test_leaves_the_bias_in_an_int8_product() -> None:
    for kind, left in (("gelu-erf", 0), ("gelu-tanh", 1), ("quick-gelu", 1)):
        model = layer(kind)
        force = make_context(lambda key, forms, rule: Choice("int8", 1.0, False))
        assert DynamicInt8(force=True).apply(model, force).rewrites == 1
        outcome = LowerActivation().apply(
            model, make_context(lambda k, f, r: Choice([*f][-1], 1, 0))
        )
        assert outcome.rewrites == left
        assert loaded_operators(model)[0] == "DynamicQuantizeMatMul"
        if kind == "gelu-erf":
            assert "int8" in outcome.refusals[0].reason


def test_refuses_other_types() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 20]>
        half (float16[batch, 4] x) => (float16[batch, 4] y)
        <float16[4] b = {1, 2, 3, 4}>
        { sum = Add (x, b)  y = Gelu (sum) }
    """)
    before = model.clone()
    outcome = LowerActivation().apply(model, make_context(choosing("BiasGelu")))
    assert identical(before, model)
    assert [item.reason for item in outcome.refusals] == ["it computes in FLOAT16"]


def test_a_sum_that_is_needed_elsewhere_is_not_fused() -> None:
    offered: list[list[str]] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        offered.append(list(forms))
        return Choice("Gemm", 1.0, False)

    model = layer("gelu-erf", ("=> (", "=> (float[batch, sequence, 4] sum, "))
    before = model.clone()
    assert LowerActivation().apply(model, make_context(choose)).rewrites == 1
    assert offered == [["as it is", "Gemm"]]
    feeds = made_up(before)
    for mine, theirs in zip(run_model(before, feeds), run_model(model, feeds), strict=True):
        assert all(relative_l2(mine[name], theirs[name]) <= ROUNDING.rel_l2 for name in mine)


def test_no_rows() -> None:
    model = layer("gelu-erf")
    LowerActivation().apply(model, make_context(choosing("Gemm")))
    for shape in ((0, 5, 6), (2, 0, 6)):
        feeds = [{"x": np.zeros(shape, np.float32)}]
        assert run_model(model, feeds)[0]["y"].shape == (*shape[:2], 4)
