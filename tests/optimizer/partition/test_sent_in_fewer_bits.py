"""Encodings of what stages send: their laws, and graphs beside arithmetic."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto
from samples import Builder, encoder

from burnish.driver.sending import Sent, admit, failed, within
from burnish.optimizer.analysis import shapes
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.given import ask_inputs
from burnish.optimizer.partition.stages import StageModel
from burnish.optimizer.partition.wire.kinds import FLOAT16, FLOAT32, INT8, KINDS, rounded, sent
from burnish.optimizer.partition.wire.ports import encoded
from burnish.optimizer.partition.wire.sendable import sendable

rows = arrays.arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(rows)
def test_int8_is_off_by_half_a_step_of_its_token(array: np.ndarray) -> None:
    found = rounded(INT8, array)
    step = np.abs(array).max(axis=-1, keepdims=True) / 127.0
    assert (np.abs(found - array) <= step * 0.5001 + 1e-30).all()
    np.testing.assert_allclose(rounded(INT8, found), found, rtol=1e-5, atol=1e-30)


def test_tokens_of_nothing_and_numbers_beyond_a_type() -> None:
    assert (rounded(INT8, np.zeros((2, 4), np.float32)) == 0).all()
    assert rounded(INT8, np.zeros((0, 4), np.float32)).shape == (0, 4)
    large = np.array([[1e6, -1e6, 1.0]], np.float32)
    assert rounded(FLOAT16, large).tolist() == [[65504.0, -65504.0, 1.0]]
    assert rounded(FLOAT32, large) is large


def test_int8_is_a_quarter() -> None:
    assert sent(FLOAT32, (8, 128, 384), 4) == 8 * 128 * 384 * 4
    assert sent(FLOAT16, (8, 128, 384), 4) == 8 * 128 * 384 * 2
    assert sent(INT8, (8, 128, 384), 4) == 8 * 128 * (384 + 4)
    assert sent(FLOAT16, (8, 4), 2) == 8 * 4 * 2


def stage(operator: str, source: str, target: str, opset: int, dtype: int) -> StageModel:
    b = Builder()
    b.input(source, dtype, ["batch", "tokens", 8])
    b.op(operator, [source], target)
    b.output(target, dtype, ["batch", "tokens", 8])
    return StageModel(b.model(opset), (source,), (target,))


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axis", "dtype"), [(-1, np.float32), (-2, np.float32), (-1, np.float16)])
def test_graphs_do_what_the_arithmetic_says(opset: int, kind: str, axis: int, dtype: type) -> None:
    element = TensorProto.FLOAT if dtype is np.float32 else TensorProto.FLOAT16
    plain = [
        stage("Neg", "x", "hidden", opset, element),
        stage("Abs", "hidden", "y", opset, element),
    ]
    stages, parcels = encoded(plain, {"hidden": kind}, {"hidden": axis})
    ports = parcels["hidden"].names if kind != FLOAT32 else ("hidden",)
    assert stages[0].outputs == stages[1].inputs == ports
    for item in stages:
        onnx.checker.check_model(ir.to_proto(item.model), full_check=True)
    array = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(dtype)
    between = run_model(stages[0].model, [{"x": array}])[0]
    if kind != FLOAT32:
        assert between[ports[0]].dtype == (np.float16 if kind == FLOAT16 else np.int8)
    found = run_model(stages[1].model, [between])[0]["y"]
    tolerance = 1e-6 if dtype is np.float32 else 1e-2
    np.testing.assert_allclose(found, np.abs(rounded(kind, -array, axis)), rtol=tolerance)


def test_masks_scores_and_outputs_are_sent_as_they_are() -> None:
    model = ir.from_proto(encoder(width=64, heads=2))
    shapes.annotate(model)
    known = shapes.infer(model, {"batch": 8, "sequence": 128}, bounded=True)
    chain = Chain(model, known)
    values = sendable(model, chain, known)
    made = {value.name: value for node in chain.nodes for value in node.outputs}
    assert values and all(item.axis in (-1, -2) for item in values.values())
    for name in values:
        assert not made[name].is_graph_output()
    crossing = {name for names in chain.crossing for name in names}
    softmaxes = [node for node in model.graph if node.op_type == "Softmax"]
    scores = {node.inputs[0].name for node in softmaxes if node.inputs[0] is not None}
    assert scores and scores <= crossing and not scores & values.keys()
    whole = list(chain.carried)
    chain.send({name: item.bytes_as(INT8) for name, item in values.items()})
    assert min(now / then for now, then in zip(chain.carried, whole, strict=True) if then) < 0.3
    chain.send({})
    assert chain.carried == whole


losses = st.lists(st.floats(0.0, 0.1), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(losses, st.floats(0.0, 0.1), st.sampled_from([FLOAT16, INT8]))
def test_the_budget_holds_and_the_costly_cuts_pay(
    costs: list[float], budget: float, asked: str
) -> None:
    weight = {FLOAT32: 0.0, FLOAT16: 0.01, INT8: 1.0}

    def loss(kinds: list[str]) -> float:
        return sum(cost * weight[kind] for cost, kind in zip(costs, kinds, strict=True))

    found = within(Sent(asked, (asked,) * len(costs)), budget, loss)  # type: ignore[arg-type]
    assert found.drop is not None and found.drop <= budget
    assert found.drop == pytest.approx(loss(list(found.kinds)))
    kept = [cost for cost, kind in zip(costs, found.kinds, strict=True) if kind == asked]
    gentler = [cost for cost, kind in zip(costs, found.kinds, strict=True) if kind != asked]
    assert not kept or not gentler or max(kept) <= min(gentler)


def test_a_wire_that_no_cut_bears_is_told() -> None:
    facts = {"wire": {"asked": INT8, "cuts": [FLOAT16, FLOAT32], "losses": [0.02, 0.5]}}
    assert "cut 2 costs most (0.5 by itself)" in failed(facts, 0.01)
    assert not failed({"wire": facts["wire"] | {"cuts": [INT8, FLOAT32]}}, 0.01)
    assert not failed({"wire": facts["wire"] | {"asked": "auto"}}, 0.01)


def test_encodings_that_are_not_known_or_too_new() -> None:
    with pytest.raises(UsageError, match="--wire int4 is not known"):
        admit("int4", 17)
    with pytest.raises(UnsupportedModel, match="needs operator set 11, and it has 9"):
        admit(INT8, 9)
    admit(FLOAT32, 9)


def test_sizes_are_asked_of_inputs() -> None:
    """A mask as long as an activation follows from the input that the activation follows from."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "length", 8])
    hidden = b.op("Neg", ["x"], "hidden")
    b.op("Shape", [hidden], "sizes")
    b.op("ConstantOfShape", ["sizes"], "zeros")
    b.op("Add", ["zeros", hidden], "y")
    b.output("y", TensorProto.FLOAT, ["batch", "length", 8])
    model = b.model()
    shapes.annotate(model)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)}
    before = run_model(model, [feed])[0]["y"]
    assert ask_inputs(model) == 1 and ask_inputs(model) == 0
    assert all(n.inputs[0].is_graph_input() for n in model.graph if n.op_type == "Shape")  # type: ignore[union-attr]
    np.testing.assert_array_equal(run_model(model, [feed])[0]["y"], before)
