"""Activations with a range for each token: who needs it, and what it looks like."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import last_form, make_context, run_model
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer.analysis.activation.bounds import least
from burnish.optimizer.contract import Choice, relative_l2
from burnish.passes.compress.int8.dynamic import DynamicInt8

WIDTH = 32


def layer(before: str = "", *, opset: int = 23) -> ir.Model:
    """A linear layer, on its input or on what an activation makes of it."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    if before:
        b.op(before, ["x"], "a")
    b.linear("a" if before else "x", "y", WIDTH, 16)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 16])
    return b.model(opset)


def uneven(seed: int = 0) -> np.ndarray:
    """Tokens of very different sizes, and one of zeros."""
    x = np.random.default_rng(seed).standard_normal((2, 6, WIDTH)).astype(np.float32)
    x *= np.geomspace(1e-3, 30, 12, dtype=np.float32).reshape(2, 6, 1)
    x[1, 2] = 0.0
    return x


def quantized(model: ir.Model, *places: str) -> ir.Model:
    after = model.clone()
    DynamicInt8(finer=places).apply(after, make_context(last_form))
    return after


def errors(before: ir.Model, after: ir.Model, x: np.ndarray) -> list[float]:
    """Relative error of each token."""
    mine, theirs = (run_model(model, [{"x": x}])[0]["y"] for model in (before, after))
    pairs = zip(mine.reshape(-1, 16), theirs.reshape(-1, 16), strict=True)
    return [relative_l2(first, second) for first, second in pairs]


@pytest.mark.parametrize("opset", [17, 18, 23])
def test_small_tokens_keep_their_values(opset: int) -> None:
    model, x = layer(opset=opset), uneven()
    model.graph.initializers["y.bias"].const_value = ir.tensor(np.zeros(16, np.float32))
    assert max(errors(model, quantized(model), x)) > 0.5
    assert max(errors(model, quantized(model, "y"), x)) < 0.02


@pytest.mark.parametrize(("before", "opset"), [("Relu", 17), ("Gelu", 20), ("Sigmoid", 17)])
def test_all_steps_are_above_a_bound(before: str, opset: int) -> None:
    """With values above -0.17, half of the steps of a symmetric range would be for nothing."""
    model, x = layer(before, opset=opset), np.abs(uneven(1)) * 10
    after = quantized(model, "y")
    assert max(errors(model, after, x)) < 0.01
    kinds = [item.op_type for item in after.graph]
    assert "Abs" not in kinds
    assert kinds.count("Add") == (2 if before == "Gelu" else 1)


def test_tokens_of_zeros_are_zeros() -> None:
    model = layer()
    model.graph.initializers["y.bias"].const_value = ir.tensor(np.zeros(16, np.float32))
    after = quantized(model, "y")
    x = np.zeros((1, 3, WIDTH), np.float32)
    assert not run_model(after, [{"x": x}])[0]["y"].any()


def test_products_of_one_activation_share_its_ranges() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 8])
    for part in "qkv":
        b.linear("x", part, 8, 4)
        b.output(part, TensorProto.FLOAT, ["batch", "sequence", 4])
    model = b.model()
    apart, merged = model.clone(), model.clone()
    # One of them is enough: the activation is quantized once.
    pass_ = DynamicInt8(finer=("k",))
    alone = make_context(lambda key, forms, rule: Choice("int8-token", 1.0, False))
    outcomes = [pass_.apply(apart, alone), pass_.apply(merged, make_context(last_form))]
    assert [item.detail for item in outcomes] == [
        "3 products alone, 3 by token", "3 products merged, 3 by token",
    ]  # fmt: skip
    for after in (apart, merged):
        assert [node.op_type for node in after.graph].count("QuantizeLinear") == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    first, second = (run_model(item, [{"x": x}])[0] for item in (apart, merged))
    for name in "qkv":
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6, atol=1e-6)


def test_a_tied_table_by_token() -> None:
    """Its sums are those of the rows of what is stored."""
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 1024, 16)
    b.op("Gather", ["words", "input_ids"], "rows")
    b.op("Gelu", ["rows"], "hidden")
    b.op("Transpose", ["words"], "transposed", perm=[1, 0])
    b.op("MatMul", ["hidden", "transposed"], "logits")
    b.output("logits", TensorProto.FLOAT, ["batch", "sequence", 1024])
    model = b.model(20)
    after = quantized(model, "logits")
    feed = {"input_ids": np.arange(24).reshape(2, 12)}
    mine, theirs = (run_model(item, [feed])[0]["logits"] for item in (model, after))
    assert 0 < relative_l2(mine, theirs) < 0.03


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Relu (x)",
        'y = Gelu <approximate = "tanh"> (x)',
        "y = Gelu (x)",
        "s = Sigmoid (x) y = Mul (x, s)",
        "t = Mul (x, quick) s = Sigmoid (t) y = Mul (x, s)",
        "y = Mish (x)",
        "y = HardSwish (x)",
        "y = Softplus (x)",
        "z = Relu (x) y = Unsqueeze (z, axis)",
    ],
)
def test_bounds_hold_and_are_close(nodes: str) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 22]>
        f (float[n] x) => (y) <float quick = {{1.702}}, int64[1] axis = {{0}}> {{ {nodes} }}
    """)
    bound = least(model.graph.outputs[0])
    x = np.linspace(-12, 12, 200_001, dtype=np.float32)
    lowest = run_model(model, [{"x": x}])[0]["y"].min()
    assert bound is not None
    assert bound <= lowest < bound + 1e-3


@pytest.mark.parametrize("nodes", ["y = Tanh (x)", "y = Mul (x, x)", "y = Elu (x)", "y = Neg (x)"])
def test_what_has_no_bound(nodes: str) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 22]>
        f (float[n] x) => (y) {{ {nodes} }}
    """)
    assert least(model.graph.outputs[0]) is None
