"""Models that are new enough, and operators without an adapter."""

from __future__ import annotations

import onnx_ir as ir
from harness import make_context
from samples import parse

from burnish.optimizer import pipeline
from burnish.passes.recover.raise_opset import RaiseOpset


def test_leaves_new_models_alone(bert: ir.Model) -> None:
    assert RaiseOpset().apply(bert, make_context()).rewrites == 0
    assert bert.opset_imports[""] == 17


def test_an_operator_without_an_adapter_is_a_rejected_step() -> None:
    model = parse("""
        <ir_version: 3, opset_import: ["" : 1]>
        old (float[2, 3] x) => (float[2, 3] y) { y = Cast <to = "FLOAT"> (x) }
    """)
    (step,) = (done := pipeline.run(model, [RaiseOpset()], make_context(), None)).steps
    assert step.status == "rejected"
    assert step.reason
    assert done.model.opset_imports[""] == 1
