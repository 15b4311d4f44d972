"""Functions that call functions; and nothing to do."""

from __future__ import annotations

import onnx_ir as ir
from harness import make_context
from samples import parse

from burnish.passes.recover.inline_functions import InlineFunctions


def test_leaves_a_model_without_functions_alone(bert: ir.Model) -> None:
    assert InlineFunctions().apply(bert, make_context()).rewrites == 0


def test_inlines_what_functions_call() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        nested (float[b, 2] x) => (float[b, 2] y) { y = local.Outer (x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        Outer (a) => (c) { b = local.Inner (a) c = Relu (b) }
        <domain: "local", opset_import: ["" : 17]>
        Inner (d) => (e) { e = Neg (d) }
    """)
    assert InlineFunctions().apply(model, make_context()).rewrites == 2
    assert [node.op_type for node in model.graph] == ["Neg", "Relu"]
    assert not model.functions
