"""Models that are new enough, and operators without an adapter."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest
from harness import make_context
from samples import parse

from burnish.optimizer import pipeline, sandbox
from burnish.optimizer.libraries import convert
from burnish.passes.recover.raise_opset import RaiseOpset

PLAIN = """
    <ir_version: 8, opset_import: ["" : 15]>
    plain (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }
"""


def test_raises_what_there_may_be_something_to_recover_in(bert: ir.Model) -> None:
    assert RaiseOpset().apply(bert, make_context()).rewrites == 1
    assert bert.opset_imports[""] == 23
    assert RaiseOpset().apply(bert, make_context()).rewrites == 0


def test_leaves_others_alone() -> None:
    model = parse(PLAIN)
    assert RaiseOpset().apply(model, make_context()).rewrites == 0
    assert RaiseOpset(17).apply(model, make_context()).rewrites == 1
    assert model.opset_imports[""] == 17


def test_takes_the_newest_set_that_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {"target": 20, "reason": "no adapter"}

    def call(target: str, argument: dict[str, Any], limits: object) -> dict[str, Any]:
        argument = {**argument, "targets": [20]}
        convert(argument, lambda event: None)
        return reached

    monkeypatch.setattr(sandbox, "call", call)
    model = parse(PLAIN.replace("Relu", "Tanh"))
    outcome = RaiseOpset().apply(model, make_context())
    assert model.opset_imports[""] == 20
    assert outcome.detail.endswith("23 is out of reach: no adapter")


def test_an_operator_without_an_adapter_is_a_rejected_step() -> None:
    model = parse("""
        <ir_version: 3, opset_import: ["" : 1]>
        old (float[2, 3] x) => (float[2, 3] y) { y = Cast <to = "FLOAT"> (x) }
    """)
    (step,) = (done := pipeline.run(model, [RaiseOpset()], make_context(), None)).steps
    assert step.status == "rejected"
    assert step.reason
    assert done.model.opset_imports[""] == 1
