"""Weights stored without their zeros: the same bits again, in fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import loaded_operators, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Outcome
from burnish.passes.lower.sparse.encoding import MASK, STEPS, smallest, with_fillers
from burnish.passes.lower.sparse.sparse_storage import SparseStorage

RANDOM = np.random.default_rng(0)
KINDS = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}


def sparse(share: float, kind: type = np.float32, shape: tuple[int, int] = (123, 77)) -> np.ndarray:
    weight = RANDOM.standard_normal(shape) * 9
    return np.where(RANDOM.random(shape) < share, weight, 0).astype(kind)


def product(weight: np.ndarray, opset: int = 17) -> ir.Model:
    """A product; the weight is seen as well, through a transpose that feeds another one."""
    b = Builder()
    b.input("x", KINDS[weight.dtype.type], ["rows", len(weight)])
    b.constant("w", weight, weight.dtype.type)
    b.op("MatMul", ["x", "w"], "y")
    b.output("y", KINDS[weight.dtype.type], ["rows", weight.shape[1]])
    return b.model(opset)


def expanded(model: ir.Model) -> np.ndarray:
    """What the weight is when the model runs."""
    seen = model.clone()
    (node,) = (node for node in seen.graph if node.op_type == "MatMul")
    seen.graph.outputs.append(node.inputs[1])
    feed = {"x": np.ones((1, seen.graph.inputs[0].shape[1]), seen.graph.inputs[0].dtype.numpy())}
    (given,) = run_model(seen, [feed])
    return given[node.inputs[1].name]


def apply(model: ir.Model) -> Outcome:
    return SparseStorage().apply(model, make_context())


@pytest.mark.parametrize("opset", [11, 17, 23])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.1, 0.3, 0.6])
def test_the_same_weight_in_fewer_bytes(share: float, kind: type, opset: int) -> None:
    weight = sparse(share, kind)
    model = product(weight, opset)
    whole = len(ir.to_proto(model).SerializeToString())
    assert apply(model).rewrites == 1
    message = ir.to_proto(model)
    onnx.checker.check_model(message, full_check=True)
    np.testing.assert_array_equal(expanded(model), weight)
    saved = weight.nbytes - smallest(ir.Tensor(weight)).nbytes
    assert 0 < saved - (whole - len(message.SerializeToString())) < 1000
    assert apply(model).rewrites == 0


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_nothing_of_it_is_left_when_the_model_is_loaded(share: float) -> None:
    model = product(sparse(share))
    apply(model)
    assert loaded_operators(model) == ["MatMul"]


def test_int8() -> None:
    weight = sparse(0.05, np.int8, (64, 256))
    b = Builder()
    b.input("x", TensorProto.UINT8, ["rows", 64])
    b.constant("w", weight, np.int8)
    b.op("MatMulInteger", ["x", "w"], "y")
    b.output("y", TensorProto.INT32, ["rows", 256])
    model = b.model()
    before = model.clone()
    assert apply(model).rewrites == 1
    feed = [{"x": RANDOM.integers(0, 255, (3, 64)).astype(np.uint8)}]
    (mine,), (theirs,) = run_model(before, feed), run_model(model, feed)
    np.testing.assert_array_equal(mine["y"], theirs["y"])


def test_minus_zero_becomes_zero() -> None:
    weight = sparse(0.02)
    weight[weight == 0] *= -1
    assert np.signbit(weight).mean() > 0.9
    model = product(weight)
    assert apply(model).rewrites == 1
    np.testing.assert_array_equal(expanded(model), weight)


@pytest.mark.parametrize("kind", STEPS.values())
def test_wide_gaps_are_filled(kind: type[np.unsignedinteger]) -> None:
    widest = int(np.iinfo(kind).max)
    for gap in (widest - 1, widest, widest + 1, 2 * widest, 2 * widest + 1, 5 * widest + 3):
        positions = np.array([gap, 2 * gap, 2 * gap + 1])
        stored = with_fillers(positions, kind)
        steps = np.diff(stored, prepend=0)
        assert steps.max() <= widest
        assert (steps[1:] > 0).all()
        assert {*positions} <= {*stored}


def test_the_smallest_form_is_taken() -> None:
    shares = {0.5: MASK, 0.14: MASK, 0.1: "8-bit steps", 0.01: "8-bit steps", 1e-3: "16-bit steps"}
    for share, form in shares.items():
        found = smallest(ir.Tensor(sparse(share, shape=(500, 700))))
        assert found.form == form


def test_refuses_where_little_would_be_saved() -> None:
    outcome = apply(product(sparse(0.88)))
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert refusal.reason.startswith("91% of it would stay (88% are not zero)")
    assert apply(product(sparse(1.0))) == Outcome(detail="no weight has zeros enough")
    assert apply(product(sparse(0.1, shape=(20, 20)))).rewrites == 0


def test_refuses_what_others_read() -> None:
    model = product(sparse(0.1))
    node = ir.node("Reciprocal", [model.graph.initializers["w"]])
    node.outputs[0].name = "other"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    outcome = apply(model)
    assert outcome.rewrites == 0
    assert [item.reason for item in outcome.refusals] == [
        "Reciprocal reads it, which is no product"
    ]


def test_an_old_operator_set() -> None:
    assert apply(product(sparse(0.1), 10)) == Outcome(detail="it needs operator set 11")
