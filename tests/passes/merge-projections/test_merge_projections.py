"""Products that stay apart, and weights that are put together piece by piece."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Choice, Outcome, relative_l2
from burnish.passes.restructure import merge_projections
from burnish.passes.restructure.merge_projections import MergeProjections
from burnish.passes.restructure.merge_sample import Sample


def _apart_wins(key: str, forms: Any, rule: str) -> Choice:
    return Choice("separate", 0.9, True)


def _two(b: Builder) -> None:
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 4])
    for name in "pq":
        b.linear("x", name, 4, 4)
        b.output(name, TensorProto.FLOAT, ["batch", "sequence", 4])


def _reasons(outcome: Outcome) -> set[str]:
    return {item.reason for item in outcome.refusals}


def test_refuses_where_products_are_faster_apart(bert: ir.Model) -> None:
    outcome = MergeProjections().apply(bert, make_context(_apart_wins))
    assert outcome.rewrites == 0
    assert _reasons(outcome) == {"merging is not measurably faster (0.90 times)"}


@pytest.mark.parametrize(
    ("provider", "batch", "merged"), [("cpu", 8, 0), ("cpu", 0.25, 2), ("cuda", 8, 2)]
)
def test_rule(bert: ir.Model, provider: str, batch: float, merged: int) -> None:
    context = make_context(sizes={"batch": batch, "sequence": 128})
    outcome = MergeProjections().apply(bert, dataclasses.replace(context, provider=provider))
    assert outcome.rewrites == merged
    expected = "merging gains below 64 rows by rule (not measured)"
    assert _reasons(outcome) == (set() if merged else {expected})


def test_refuses_a_weight_with_other_readers() -> None:
    b = Builder()
    _two(b)
    b.op("Tanh", ["q.weight"], "seen")
    b.output("seen", TensorProto.FLOAT, [4, 4])
    outcome = MergeProjections().apply(b.model(), make_context(last_form))
    assert outcome.rewrites == 0
    assert _reasons(outcome) == {"its weight has other readers, and would be stored twice"}


def test_refuses_the_same_weight_twice() -> None:
    b = Builder()
    _two(b)
    b.op("MatMul", ["x", "q.weight"], "again")
    b.output("again", TensorProto.FLOAT, ["batch", "sequence", 4])
    outcome = MergeProjections().apply(b.model(), make_context(last_form))
    assert outcome.rewrites == 0
    assert "its neighbours read the same weight" in _reasons(outcome)


def test_refuses_a_bias_of_two_dimensions() -> None:
    b = Builder()
    _two(b)
    b.normal("flat", 1, 4)
    b.normal("r.weight", 4, 4)
    b.op("MatMul", ["x", "r.weight"], "product")
    b.op("Add", ["product", "flat"], "r")
    b.output("r", TensorProto.FLOAT, ["batch", "sequence", 4])
    outcome = MergeProjections().apply(b.model(), make_context(last_form))
    assert (outcome.rewrites, outcome.detail) == (1, "2 products became 1")
    assert _reasons(outcome) == {"its bias has 2 dimensions, not 1"}


def test_refuses_an_old_operator_set() -> None:
    b = Builder()
    _two(b)
    outcome = MergeProjections().apply(b.model(opset=12), make_context(last_form))
    assert outcome.rewrites == 0
    assert _reasons(outcome) == {"Split needs operator set 13"}


def test_refuses_a_weight_of_another_type() -> None:
    b = Builder()
    _two(b)
    model = b.model()
    weight = model.graph.initializers["q.weight"]
    weight.const_value = ir.tensor(np.zeros((4, 4), np.float16), name="q.weight")
    outcome = MergeProjections().apply(model, make_context(last_form))
    assert outcome.rewrites == 0
    assert _reasons(outcome) == {"its weight is FLOAT16, that of its neighbour FLOAT"}


def test_weights_past_the_limit_go_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    for name in "pqrst":
        b.linear("x", name, 4, 4)
        b.output(name, TensorProto.FLOAT, ["batch", 4])
    monkeypatch.setattr(merge_projections, "LARGEST", 2 * 4 * 16)
    model = b.model()
    original = model.clone()
    outcome = MergeProjections().apply(model, make_context(last_form))
    assert outcome.rewrites == 2
    assert _reasons(outcome) == {"the weight would exceed 0 MB"}
    again = MergeProjections().apply(model, make_context(last_form))
    assert again.rewrites == 0
    feeds = made_up(original)
    for mine, theirs in zip(run_model(original, feeds), run_model(model, feeds), strict=True):
        assert all(relative_l2(mine[name], theirs[name]) < 1e-6 for name in mine)


def test_layers_that_share_weights_share_the_merged_one() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    for name in "pq":
        b.normal(f"{name}.weight", 4, 4)
    rows = "x"
    for layer in range(3):
        for name in "pq":
            b.op("MatMul", [rows, f"{name}.weight"], f"{name}{layer}")
        rows = b.op("Mul", [f"p{layer}", f"q{layer}"], f"rows{layer}")
    b.output(rows, TensorProto.FLOAT, ["batch", 4])
    model = b.model()
    outcome = MergeProjections().apply(model, make_context(last_form))
    assert outcome.rewrites == 3
    assert sorted(model.graph.initializers) == ["p.weight_merged", "split_sizes"]


def test_the_merged_weight_is_not_kept(bert: ir.Model) -> None:
    MergeProjections().apply(bert, make_context(last_form))
    tensor = bert.graph.initializers["layer0.q.weight_merged"].const_value
    assert isinstance(tensor, ir.LazyTensor)
    assert tensor.numpy() is not tensor.numpy()


def test_short_types_are_merged_in_their_own() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT16, ["batch", 4])
    for name in "pq":
        b.constant(f"{name}.weight", b.random.standard_normal((4, 4)), np.float16)
        b.op("MatMul", ["x", f"{name}.weight"], name)
        b.output(name, TensorProto.FLOAT16, ["batch", 4])
    model = b.model()
    assert MergeProjections().apply(model, make_context(last_form)).rewrites == 1
    assert model.graph.initializers["p.weight_merged"].dtype is ir.DataType.FLOAT16


def test_the_samples_of_both_forms_compute_the_same_sizes() -> None:
    sample = Sample(6, 4, (3, 5), (True, False), ir.DataType.FLOAT16)
    assert sample.key == "projections float16 rows=6 k=4 n=3b+5"
    feed = {"input": np.ones((1, 6, 4), np.float32)}
    for form in ("separate", "merged"):
        message = sample.builder(form)()
        (found,) = run_model(ir.from_proto(message), [feed])
        assert [array.shape for array in found.values()] == [(1, 1, 3), (1, 1, 5)]


def test_merges_in_the_branches_of_an_if() -> None:
    """Branches that read the outer weights share what is merged of them."""
    branches = {}
    for name in ("then", "else"):
        inner = Builder()
        for part in "pq":
            inner.op("MatMul", ["x", f"{part}.weight"], f"{name}.{part}")
        inner.op("Add" if name == "then" else "Mul", [f"{name}.p", f"{name}.q"], f"{name}.y")
        inner.output(f"{name}.y", TensorProto.FLOAT, ["batch", 4])
        branches[f"{name}_branch"] = inner.message().graph
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 4])
    b.input("yes", TensorProto.BOOL, [])
    for part in "pq":
        b.normal(f"{part}.weight", 4, 4)
    b.op("If", ["yes"], "y", **branches)
    b.output("y", TensorProto.FLOAT, ["batch", 4])
    model = b.model()
    original = model.clone()
    assert MergeProjections().apply(model, make_context(last_form)).rewrites == 2
    assert sorted(model.graph.initializers) == ["p.weight_merged", "split_sizes"]
    feed = {"x": np.ones((2, 4), np.float32)}
    feeds = [feed | {"yes": np.array(yes)} for yes in (True, False)]
    for mine, theirs in zip(run_model(original, feeds), run_model(model, feeds), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) < 1e-6
