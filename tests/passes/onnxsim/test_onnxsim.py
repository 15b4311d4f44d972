"""What becomes of a run where the library fails."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest
from harness import make_checker, make_context

from burnish.optimizer import pipeline
from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import identical
from burnish.passes.recover import onnxsim
from burnish.passes.recover.onnxsim import Onnxsim


@pytest.mark.parametrize(
    "error",
    [InvalidModel("it crashed (signal 11)"), ResourceLimit("the time limit was reached")],
    ids=["crash", "hang"],
)
def test_its_failure_is_a_rejected_step(
    bert: ir.Model, executor: Executor, monkeypatch: pytest.MonkeyPatch, error: BurnishError
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(onnxsim.sandbox, "call", fail)
    check = make_checker(executor, bert).check
    compiled = pipeline.run(bert, [Onnxsim()], make_context(), check)
    assert compiled.steps[0].status == "rejected"
    assert compiled.steps[0].reason == error.message
    assert compiled.model is bert


def test_weights_never_reach_the_library(bert: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(target: str, argument: dict[str, str], limits: object) -> None:
        message = ir.load(argument["source"])
        seen.extend(value.const_value.nbytes for value in message.graph.initializers.values())
        ir.save(message, argument["target"])

    monkeypatch.setattr(onnxsim.sandbox, "call", look)
    before = bert.clone()
    assert Onnxsim().apply(bert, make_context()).rewrites == 0
    assert max(seen) <= 1024
    assert identical(before, bert)
