"""What folding must not do: grow the file."""

from __future__ import annotations

import onnx_ir as ir
from harness import make_checker, make_context
from samples import parse

from burnish.optimizer import pipeline
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import weight_bytes
from burnish.passes.recover.fold_constants import FoldConstants


def _expanding(count: int) -> ir.Model:
    return parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        wide (float[b, 1] x) => (float[b, {count}] y)
        <int64[2] shape = {{1, {count}}}, float one = {{1}}>
        {{
            ones = Expand (one, shape)
            y = Mul (x, ones)
        }}
    """)


def test_refuses_large_results() -> None:
    model = _expanding((1 << 16) + 1)
    assert FoldConstants().apply(model, make_context()).rewrites == 0
    assert [node.op_type for node in model.graph] == ["Expand", "Mul"]


def test_takes_back_what_grows_too_much(executor: Executor) -> None:
    model = _expanding(1 << 10)
    size = weight_bytes(model)
    check = make_checker(executor, model).check
    (step,) = (done := pipeline.run(model, [FoldConstants(growth=64)], make_context(), check)).steps
    assert step.status == "rejected"
    assert "folding would add more than 64 bytes" in step.reason
    assert weight_bytes(done.model) == size
