"""Which products and tables go to int8, what is shared, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_checker, make_context, run_model
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer import pipeline
from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import identical
from burnish.passes.compress.int8.dynamic import NOTHING_FOUND, DynamicInt8
from burnish.passes.recover.inline_functions import InlineFunctions

BOLD = make_context(last_form)


def counts(model: ir.Model) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def error(before: ir.Model, after: ir.Model) -> float:
    """The largest relative error of any output on made-up feeds."""
    feeds = made_up(before)
    pairs = zip(run_model(before, feeds), run_model(after, feeds), strict=True)
    return max(relative_l2(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


def apply(model: ir.Model, **options: Any) -> tuple[ir.Model, Outcome]:
    """A copy of the model after the pass."""
    after = model.clone()
    return after, DynamicInt8(**options).apply(after, BOLD)


def builder() -> Builder:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 8])
    return b


# Left alone


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("y = MatMul (left, x)", "the weight is the left operand"),
        ("y = MatMul (x, deep)", "the weight has 3 dimensions, not 2"),
        ("y = Gemm <transA = 1> (x, w)", "the activation is transposed"),
        ("y = Gemm (x, w, x)", "the bias is not a constant vector"),
        ("d = Cast <to = 11> (x) y = MatMul (d, double)", "the weight is DOUBLE, not FLOAT"),
    ],
)
def test_refuses(nodes: str, reason: str) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        products (float[2, 2] x) => (y)
        <float[2, 2] w = {{1, 2, 3, 4}}, float[2, 2] left = {{1, 2, 3, 4}},
         float[1, 2, 2] deep = {{1, 2, 3, 4}}, double[2, 2] double = {{1, 2, 3, 4}}>
        {{ {nodes} }}
    """)
    _, outcome = apply(model)
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == [reason]


def test_products_of_computed_values_are_no_products() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        squares (float[2, 2] x) => (float[2, 2] y) { y = MatMul (x, x) }
    """)
    assert apply(model)[1] == Outcome(detail=NOTHING_FOUND)


def test_keeps_what_it_is_told_to_keep() -> None:
    b = builder()
    b.linear("x", "a", 8, 8)
    b.linear("a", "y", 8, 8)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    after, outcome = apply(b.model(), keep=("y",))
    assert outcome.rewrites == 1
    assert [item.reason for item in outcome.refusals] == ["kept in fp32 to stay within the budget"]
    assert counts(after)["MatMul"] == counts(after)["MatMulInteger"] == 1


def test_says_how_much_faster_fp32_is() -> None:
    b = builder()
    b.linear("x", "y", 8, 8)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    model = b.model()
    after = model.clone()
    context = make_context(lambda key, forms, rule: Choice("fp32", 0.5, True))
    outcome = DynamicInt8().apply(after, context)
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == [
        "int8 is not measurably faster (8 x 8, 0.50 times)"
    ]
    assert identical(model, after)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["a.weight", "y.weight"])
def test_a_weight_that_is_not_finite_stays(place: str, number: float) -> None:
    b = builder()
    b.linear("x", "a", 8, 8)
    b.linear("a", "y", 8, 8)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    message = b.message()
    for tensor in message.graph.initializer:
        if tensor.name == place:
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[0, 0] = number
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, place))
    _, outcome = apply(ir.from_proto(message))
    assert outcome.rewrites == 1
    assert [item.reason for item in outcome.refusals] == ["its weight holds NaN or infinity"]


def test_tables_of_factors_and_of_minus_infinity_stay() -> None:
    """A rotary embedding multiplies by its rows; a causal table rules out by them."""
    b = builder()
    b.input("positions", TensorProto.INT64, ["sequence"])
    b.normal("cosines", 4096, 8)
    b.constant("causal", np.where(np.arange(256)[:, None] < np.arange(256), -np.inf, 0))
    b.normal("sums", 4096, 8)
    b.op("Gather", ["cosines", "positions"], "rows")
    b.op("Unsqueeze", ["rows", b.constant("axis", [0], np.int64)], "wide")
    b.op("Mul", ["x", "wide"], "turned")
    b.op("Gather", ["causal", "positions"], "seen")
    b.op("Gather", ["sums", "positions"], "added")
    b.op("Mul", ["sums", "sums"], "squares")
    for name in ("turned", "seen", "added", "squares"):
        b.output(name, TensorProto.FLOAT, None)  # type: ignore[arg-type]
    _, outcome = apply(b.model())
    assert outcome.rewrites == 0
    assert sorted(item.reason for item in outcome.refusals) == [
        "its rows multiply activations",
        "its table holds NaN or infinity",
        "its table is used in float elsewhere",
    ]


def test_rows_that_are_normalized_are_no_factors() -> None:
    """T5 multiplies its embeddings by the reciprocal of their own norm."""
    b = builder()
    b.input("ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 4096, 8)
    b.op("Gather", ["words", "ids"], "rows")
    b.op("Mul", ["rows", b.constant("factor", 2.0)], "larger")
    b.op("ReduceMean", ["rows"], "mean", axes=[-1])
    b.op("Mul", ["rows", "mean"], "normed")
    b.output("normed", TensorProto.FLOAT, ["batch", "sequence", 8])
    _, outcome = apply(b.model())
    assert (outcome.rewrites, outcome.refusals) == (1, ())


BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
branches (bool go, float[2, 2] x) => (float[2, 2] y)
<float[2, 2] w = {1, 2, 3, 4}>
{
  val_0 = MatMul (x, w)
  w_int8 = Relu (val_0)
  y = If (go) <
    then_branch = one () => (float[2, 2] a)
      <float[2, 2] v = {5, 6, 7, 8}> { a = MatMul (w_int8, v) },
    else_branch = two () => (float[2, 2] b)
      <float[2, 2] v = {9, -8, 7, 6}> { b = MatMul (w_int8, v) }>
}
"""


def test_branches_that_call_their_weights_alike(executor: Executor) -> None:
    """New values take no name of another, in whatever graph; weights are told apart by what they
    are, not by what they are called."""
    model = parse(BRANCHES)
    check = make_checker(executor, model).check
    compiled = pipeline.run(model, [DynamicInt8()], BOLD, check)
    assert [step.status for step in compiled.steps] == ["kept"], compiled.steps[0].reason
    assert compiled.steps[0].outcome.rewrites == 3
    assert error(model, compiled.model) < 0.05


# The forms of a product


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.3, "beta": 3.0}])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm(attributes: dict[str, float], bias: bool) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8])
    b.normal("w", *((5, 8) if "transB" in attributes else (8, 5)))
    b.normal("b", 5)
    b.op("Gemm", ["x", "w", "b"] if bias else ["x", "w"], "y", **attributes)
    b.output("y", TensorProto.FLOAT, ["batch", 5])
    after, outcome = apply(model := b.model())
    assert outcome.rewrites == 1
    assert 0 < error(model, after) < 0.03


def test_gemm_with_a_bias_that_takes_no_part() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8])
    b.normal("w", 8, 5)
    b.normal("b", 5)
    b.op("Gemm", ["x", "w", "b"], "y", beta=0.0)
    b.output("y", TensorProto.FLOAT, ["batch", 5])
    after, _ = apply(model := b.model())
    assert 0 < error(model, after) < 0.03


def test_transpose_before_the_product() -> None:
    b = builder()
    b.normal("w", 5, 8)
    b.op("Transpose", ["w"], "wt", perm=[1, 0])
    b.op("MatMul", ["x", "wt"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 5])
    after, outcome = apply(model := b.model())
    assert outcome.rewrites == 1
    assert counts(after).get("Transpose", 0) == 0
    assert list(after.graph.initializers) == ["w_int8", "w_scales"]
    assert 0 < error(model, after) < 0.03


def test_a_bias_with_two_uses_of_the_product_stays_apart() -> None:
    b = builder()
    b.linear("x", "y", 8, 8)
    b.op("Relu", ["y.product"], "z")
    for name in "yz":
        b.output(name, TensorProto.FLOAT, ["batch", "sequence", 8])
    after, outcome = apply(model := b.model())
    assert outcome.rewrites == 1
    assert 0 < error(model, after) < 0.03


def test_a_product_of_a_product() -> None:
    """Nothing in between, as in low-rank adapters; and of the rows of a table."""
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 2048, 8)
    b.op("Gather", ["words", "input_ids"], "rows")
    b.linear("rows", "down", 8, 4)
    b.linear("down", "up", 4, 8)
    b.op("Identity", ["up"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    after, outcome = apply(model := b.model())
    assert outcome.rewrites == 3
    assert 0 < error(model, after.clone()) < 0.05


# What is shared


def test_query_key_and_value_are_one_product() -> None:
    b = builder()
    for part in "qkv":
        b.linear("x", part, 8, 4)
        b.output(part, TensorProto.FLOAT, ["batch", "sequence", 4])
    after, outcome = apply(model := b.model())
    assert outcome.detail == "3 products merged"
    assert counts(after)["MatMulInteger"] == counts(after)["Split"] == 1
    alone = model.clone()
    DynamicInt8().apply(alone, make_context(lambda *_: Choice("int8", 1.0, False)))
    assert counts(alone)["MatMulInteger"] == 3
    assert counts(alone)["DynamicQuantizeLinear"] == 1
    feeds = made_up(model)
    for merged, apart in zip(run_model(after, feeds), run_model(alone, feeds), strict=True):
        for name in "qkv":
            np.testing.assert_array_equal(merged[name], apart[name])


def test_layers_that_share_a_weight_store_it_once() -> None:
    """As ALBERT does."""
    b = builder()
    b.normal("w", 8, 8)
    for source, target in ("xa", "ab", "by"):
        b.op("MatMul", [source, "w"], f"{target}0")
        b.op("Tanh", [f"{target}0"], target)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    after, outcome = apply(model := b.model())
    assert outcome.rewrites == 3
    assert list(after.graph.initializers) == ["w_int8", "w_scales"]
    assert 0 < error(model, after) < 0.05


def _tied() -> ir.Model:
    """A table that gives the rows of tokens and scores them again."""
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 1024, 16)
    b.op("Gather", ["words", "input_ids"], "rows")
    b.op("Tanh", ["rows"], "hidden")
    b.op("Transpose", ["words"], "transposed", perm=[1, 0])
    b.op("MatMul", ["hidden", "transposed"], "logits")
    b.output("logits", TensorProto.FLOAT, ["batch", "sequence", 1024])
    return b.model()


def test_a_tied_table_is_stored_once() -> None:
    after, outcome = apply(model := _tied())
    assert outcome.rewrites == 2
    stored = [
        item for item in after.graph.initializers.values() if item.const_value.size == 1 << 14
    ]
    assert [item.name for item in stored] == ["words_int8"]
    assert 0 < error(model, after) < 0.03


def test_a_tied_table_stays_where_its_product_does() -> None:
    model = _tied()
    context = make_context(lambda *_: Choice("fp32", 1.0, False))
    outcome = DynamicInt8().apply(model, context)
    assert outcome.rewrites == 0
    assert "its table is also a product's weight in fp32" in [
        item.reason for item in outcome.refusals
    ]


def test_embeddings_stay_as_asked() -> None:
    _, outcome = apply(_tied(), embeddings=False)
    assert [item.reason for item in outcome.refusals] == ["embeddings are kept as asked"]


# Where the products are


def test_products_in_branches() -> None:
    branches = []
    for name in ("then", "else"):
        inner = Builder(seed=len(name))
        inner.random = np.random.default_rng(len(name) + len(branches))
        inner.linear("x", f"{name}_y", 8, 8)
        inner.output(f"{name}_y", TensorProto.FLOAT, ["batch", "sequence", 8])
        branches.append(onnx.helper.make_graph(inner.nodes, name, [], inner.outputs, inner.weights))
    b = builder()
    b.input("flag", TensorProto.BOOL, [])
    b.op("If", ["flag"], "y", then_branch=branches[0], else_branch=branches[1])
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    model = b.model()
    after, outcome = apply(model)
    assert outcome.rewrites == 2
    assert counts(after)["MatMulInteger"] == 2
    for flag in (False, True):
        feeds = [feed | {"flag": np.array(flag)} for feed in made_up(model)]
        pairs = zip(run_model(model, feeds), run_model(after, feeds), strict=True)
        assert all(0 < relative_l2(mine["y"], theirs["y"]) < 0.03 for mine, theirs in pairs)


def test_products_in_functions_once_they_are_inlined() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        calls (float[batch, 2] x) => (float[batch, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}> { h = local.Layer (x, w) y = local.Layer (h, w) }
        <domain: "local", opset_import: ["" : 17]>
        Layer (x, w) => (y) { product = MatMul (x, w) y = Relu (product) }
    """)
    compiled = pipeline.run(model, [InlineFunctions(), DynamicInt8()], BOLD, None)
    assert [step.status for step in compiled.steps] == ["kept", "kept"]
    assert compiled.steps[1].outcome.rewrites == 2
    assert list(compiled.model.graph.initializers) == ["w_int8", "w_scales"]


def test_whole_encoder(bert: ir.Model, executor: Executor) -> None:
    check = make_checker(executor, bert).check
    compiled = pipeline.run(bert, [DynamicInt8()], BOLD, check)
    (step,) = compiled.steps
    assert step.status == "kept"
    assert step.outcome.rewrites == 13
    assert step.outcome.detail == "7 products alone, 6 products merged"
    assert step.error is not None
    assert 0 < step.error < 0.05
    assert 0 < error(bert, compiled.model) < 0.1
