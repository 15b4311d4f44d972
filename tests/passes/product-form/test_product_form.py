"""A product that transposes and scales its operands gives what the operators give."""

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
from burnish.passes.lower.product_form import FORM, LowerProduct

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
scores (float[batch, 2, sequence, 4] q, float[batch, 2, sequence, 4] k)
  => (float[batch, 2, sequence, sequence] y)
<float half = {0.5}, float[1] four = {4.0}, float[1, 1, 1, 1, 1] wide = {2.0},
 float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
{ BODY }
"""
TURN = "t = Transpose <perm = [0, 1, 3, 2]> "
SQUARE = ("[batch, 2, sequence, sequence] y", "[batch, 2, 4, 4] y")

PLACES: dict[str, tuple[str, dict[str, Any], tuple[str, str] | None]] = {
    "keys": (TURN + "(k) y = MatMul (q, t)", {"transB": 1}, None),
    "queries": (TURN + "(q) y = MatMul (t, k)", {"transA": 1}, SQUARE),
    "scale after": (TURN + "(k) p = MatMul (q, t) y = Mul (half, p)",
                    {"transB": 1, "alpha": 0.5}, None),
    "scales everywhere": (
        "s = Mul (q, half)" + TURN + "(k) u = Div (t, four) p = MatMul (s, u) y = Div (p, half)",
        {"transB": 1, "alpha": 0.25}, None),
    "scale of a layer": ("p = MatMul (q, w) y = Mul (p, half)", {"alpha": 0.5},
                         ("sequence, sequence] y", "sequence, 4] y")),
    "twice": (TURN + "(k) v = Transpose <perm = [0, 1, 3, 2]> (t) u = Mul (v, half)"
              "r = Transpose <perm = [0, 1, 3, 2]> (u) y = MatMul (q, r)",
              {"transB": 1, "alpha": 0.5}, None),
}  # fmt: skip


def model_of(body: str, change: tuple[str, str] | None = None) -> ir.Model:
    text = MODEL.replace("BODY", body)
    return parse(text.replace(*change) if change else text)


@pytest.mark.parametrize("name", PLACES)
def test_equals_the_operators_and_stays_at_load(name: str) -> None:
    body, attributes, change = PLACES[name]
    model = model_of(body, change)
    lowered = model.clone()
    assert LowerProduct().apply(lowered, make_context(choosing(FORM))).rewrites == 1
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    [node] = lowered.graph
    found = {key: attribute.value for key, attribute in node.attributes.items()}
    assert found == {"transA": 0, "transB": 0, "alpha": 1.0} | attributes
    feeds = made_up(model)
    assert feeds
    for mine, theirs in zip(run_model(model, feeds), run_model(lowered, feeds), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) <= ROUNDING.rel_l2
    assert loaded_operators(lowered) == [FORM]
    once = lowered.clone()
    assert LowerProduct().apply(lowered, make_context(choosing(FORM))).rewrites == 0
    assert identical(once, lowered)


@pytest.mark.parametrize("form", ["as it is", FORM])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_timed_is_what_will_run(name: str, form: str) -> None:
    seen: list[str] = []

    def choose(key: str, forms: Mapping[str, Callable[[], Any]], rule: str) -> Choice:
        seen.extend(loaded_operators(ir.from_proto(forms[form]())))
        return Choice(form, 1.5, True)

    body, _, change = PLACES[name]
    model = model_of(body, change)
    LowerProduct().apply(model, make_context(choose))
    assert seen == loaded_operators(model)


def test_the_place_in_the_record_tells_sizes_and_what_is_done() -> None:
    keys: list[str] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        keys.append(key)
        return Choice(rule, 1.0, False)

    for name in ("scales everywhere", "scale of a layer"):
        body, _, change = PLACES[name]
        LowerProduct().apply(model_of(body, change), make_context(choose))
    assert keys == [
        "product ~8x2x~128x4* @ ~8x2x~128x4T**",
        "product ~8x2x~128x4 @ 4x4 constant*",
    ]


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (TURN + "(k) y = MatMul (q, t)", "batch, 2, 4, sequence] t"),
        (TURN + "(k) y = MatMul (q, t) z = Neg (t)", "batch, 2, 4, sequence] z"),
        ("t = Transpose <perm = [1, 0, 2, 3]> (k) u = Neg (q) y = MatMul (t, u)", "batch] u"),
        ("u = Transpose <perm = [1, 0]> (w) z = MatMul (q, u)", "batch, 2, sequence, 4] z"),
        ("p = MatMul (q, w) z = Mul (p, wide)", "1, batch, 2, sequence, 4] z"),
        ("z = MatMul (q, w)", "batch, 2, sequence, 4] z"),
    ],
    ids=["output", "read elsewhere", "other axes", "constant", "widens", "bare"],
)
def test_leaves_what_it_cannot_say(body: str, output: str) -> None:
    model = model_of(body, ("batch, 2, sequence, sequence] y", output))
    before = model.clone()
    assert LowerProduct().apply(model, make_context(choosing(FORM))).rewrites == 0
    assert identical(before, model)


def test_a_scale_between_two_products_is_taken_once() -> None:
    body = "p = MatMul (q, w) s = Mul (p, half)" + TURN + "(k) y = MatMul (s, t)"
    model = model_of(body)
    lowered = model.clone()
    assert LowerProduct().apply(lowered, make_context(choosing(FORM))).rewrites == 2
    feeds = made_up(model)
    for mine, theirs in zip(run_model(model, feeds), run_model(lowered, feeds), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) <= ROUNDING.rel_l2


def test_rules_refusals_and_other_providers() -> None:
    body, _, _ = PLACES["keys"]
    for provider, rewrites in (("cpu", 0), ("cuda", 1), ("tensorrt", 0)):
        context = dataclasses.replace(make_context(), provider=provider)
        assert LowerProduct().apply(model_of(body), context).rewrites == rewrites
    outcome = LowerProduct().apply(model_of(body), make_context())
    assert [item.reason for item in outcome.refusals] == ["it stays by rule (not measured)"]
    text = (
        MODEL.replace("BODY", body)
        .replace("float[", "double[")
        .replace("float half", "double half")
    )
    outcome = LowerProduct().apply(parse(text), make_context(choosing(FORM)))
    assert [item.reason for item in outcome.refusals] == ["it computes in DOUBLE"]


def test_unknown_sizes_are_not_measured() -> None:
    def choose(key: str, forms: Any, rule: str) -> Choice:
        raise AssertionError("nothing is known to measure")

    text = MODEL.replace("BODY", PLACES["keys"][0]).replace("batch", "rows")
    model = parse(text)
    context = dataclasses.replace(make_context(choose), provider="cuda")
    assert LowerProduct().apply(model, context).rewrites == 1
