"""What is no linear layer of the normal form's kind stays, with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context
from samples import parse

from burnish.optimizer.analysis.linear import account
from burnish.optimizer.regions import identical
from burnish.passes.recover.linear import Linear

HERE = Path(__file__).parent
FLAT = (HERE / "flattened.before.onnxtxt").read_text()
OTHERS = (HERE / "other_spellings.before.onnxtxt").read_text()


@pytest.mark.parametrize(
    ("text", "old", "new", "reason"),
    [
        (FLAT, "<transB = 1> (flat, weight, bias)", "<transB = 1, beta = 0.5> (flat, weight, bias)",
         "the bias is scaled"),
        (FLAT, "float[2] bias = {1, -1}", "float[2] old = {1, -1}",
         "the bias is not a constant of one element per feature"),
        (OTHERS, "turned = Transpose <perm = [0, 2, 1]>", "turned = Transpose <perm = [0, 1, 2]>",
         "its features are not along the last axis, nor are they after a transpose"),
        (OTHERS, "channels = Transpose <perm = [0, 2, 1]> (x)", "channels = Relu (c)",
         "its features are not along the last axis, nor were they before a transpose"),
    ],
)  # fmt: skip
def test_refuses(text: str, old: str, new: str, reason: str) -> None:
    assert old in text
    changed = text.replace(old, new)
    changed = changed.replace("3] x, float[batch,", "3] x, float[batch, 3, length] c, float[batch,")
    if "old" in new:
        changed = changed.replace("length, 3] x)", "length, 3] x, float[2] bias)")
    if "[0, 1, 2]" in new:
        changed = changed.replace("length, 4] turned", "4, length] turned")
    outcome = Linear().apply(parse(changed), make_context())
    assert any(reason in refusal.reason for refusal in outcome.refusals)


@pytest.mark.parametrize(
    "equation", ["bsd,dhk->bhsk", "bsd,dhk->bshk", "bsd,dhd->bsh", "bsd,bsd->bs"]
)
def test_einsum_that_is_no_linear_layer_is_left_alone(equation: str) -> None:
    model = parse(f"""
        <ir_version: 11, opset_import: ["" : 23]>
        e (float[2, 3, 3] x) => (y)
        <float[2, 3, 2] weight = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}>
        {{ y = Einsum <equation = "{equation}"> (x, weight) }}
    """)
    before = model.clone()
    outcome = Linear().apply(model, make_context())
    assert (outcome.rewrites == 1) == (equation == "bsd,dhk->bshk")
    assert outcome.rewrites or identical(before, model)


def test_a_bias_that_adds_axes_stays() -> None:
    model = parse("""
        <ir_version: 11, opset_import: ["" : 23]>
        e (float[n, 2] x) => (float[1, n, 3] y)
        <float[2, 3] weight = {1, 2, 3, 4, 5, 6}, float[1, 1, 3] bias = {1, 2, 3}>
        { z = MatMul (x, weight) y = Add (z, bias) }
    """)
    outcome = Linear().apply(model, make_context())
    assert outcome.rewrites == 0
    assert "more axes" in outcome.refusals[0].reason


def test_flat_rows_that_others_read_stay() -> None:
    text = FLAT.replace("length, 4] z)", "length, 4] z, float[rows, 2] product)")
    model = parse(text)
    assert Linear().apply(model, make_context()).rewrites == 2
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    product = next(value for value in model.graph.outputs if value.name == "product")
    maker = product.producer()
    assert maker is not None and maker.op_type == "Reshape"


def test_a_transposed_weight_is_computed_only_when_asked_for() -> None:
    model, asked = parse(FLAT), []
    weight = model.graph.initializers["weight"]
    given = weight.const_value
    assert given is not None

    def compute() -> ir.TensorProtocol:
        asked.append(1)
        return given

    weight.const_value = ir.LazyTensor(compute, dtype=given.dtype, shape=ir.Shape([2, 3]))
    Linear().apply(model, make_context())
    assert not asked
    made = model.graph.initializers["weight_matrix"].const_value
    assert made is not None and np.array_equal(made.numpy(), given.numpy().T)
    assert "weight" not in model.graph.initializers


def test_account() -> None:
    model = parse(OTHERS)
    assert account(model)[:2] == (5, 1)
    Linear().apply(model, make_context())
    assert account(model) == (5, 5, [])
