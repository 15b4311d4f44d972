"""The forms that OpenVINO is given: it runs them, and answers as ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from test_attention_form import CASES, choosing, feed, model_of, sizes

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.forms import AS_IT_IS
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.forms import FORMS
from burnish.runtimes.openvino import Session

OFFERED = [name for name, form in FORMS.items() if "openvino" in form.providers]
GROUPED = {"grouped", "one head of keys", "causal, grouped, capped"}


PAIRS = [
    (form, case)
    for form in (AS_IT_IS, *OFFERED)
    for case in CASES
    if form in {AS_IT_IS, "products", *CASES[case][2]}
]


@pytest.mark.parametrize(("form", "case"), PAIRS)
def test_equals_the_operator_in_onnxruntime(form: str, case: str, tmp_path: Path) -> None:
    model = model_of(case)
    lowered = model.clone()
    if form != AS_IT_IS:
        context = make_context(choosing(form), sizes=sizes())
        assert LowerAttention().apply(lowered, context).rewrites == 1
    onnx.save(ir.to_proto(lowered), path := tmp_path / "model.onnx")
    arrays = feed(model)
    mine = run_model(model, [arrays])[0]["y"]
    theirs = Session(path, threads=1).run(["y"], arrays)[0]
    for row in range(3):  # rows of zeros hide no error of others
        assert relative_l2(mine[row], theirs[row]) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_unmeasured_the_operator_stays_where_no_keys_are_shared(case: str) -> None:
    context = make_context(sizes=sizes(), provider="openvino")
    detail = LowerAttention().apply(model_of(case), context).detail
    assert detail == ("attentions: 1 as products" if case in GROUPED else "")


@pytest.mark.parametrize("case", CASES)
def test_forms_that_it_does_not_have_are_none_to_choose(case: str) -> None:
    offered: set[str] = set()

    def choose(key: str, forms: object, rule: str) -> Choice:
        offered.update(forms)  # type: ignore[call-overload]
        return Choice(rule, 1.0, False)

    LowerAttention().apply(model_of(case), make_context(choose, sizes=sizes(), provider="openvino"))
    possible = {"products", *CASES[case][2]} & set(OFFERED)
    assert offered == possible | (set() if case in GROUPED else {AS_IT_IS})
