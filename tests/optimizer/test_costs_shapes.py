"""Shapes for given sizes, and what a run costs at them."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.analysis.shapes import infer, resolve, symbols
from burnish.optimizer.signature import Port


@pytest.mark.parametrize(
    ("symbol", "size"),
    [
        ("batch", 2),
        ("7", 7),
        ("past + sequence", 8),
        ("past+1", 6),
        ("sequence + 4", 7),
        ("unknown", None),
        ("past + unknown", None),
        ("past * 2", None),
        ("past + 1 + 1", None),
        ("", None),
    ],
)
def test_resolve(symbol: str, size: int | None) -> None:
    assert resolve(symbol, {"batch": 2, "past": 5, "sequence": 3}) == size


def test_symbols_in_order_without_sums() -> None:
    ports = (
        Port("a", "FLOAT", ("batch", 3, "past + sequence")),
        Port("b", "FLOAT", (None, "sequence", "batch", "length + 1")),
        Port("c", "FLOAT", None),
    )
    assert symbols(ports) == ["batch", "past", "sequence", "length"]


def test_infer(bert: ir.Model) -> None:
    shapes = infer(bert, {"batch": 2, "sequence": 7})
    assert shapes["input_ids"] == (2, 7)
    assert shapes["layer0.up"] == (2, 7, 32)
    assert shapes["layer1.probabilities"] == (2, 2, 7, 7)
    assert shapes["logits"] == (2, 3)
    assert infer(bert, {"batch": 2}).get("layer0.up") is None


def test_infer_leaves_the_model_as_it_is(bert: ir.Model) -> None:
    infer(bert, {"batch": 2, "sequence": 7})
    assert bert.graph.inputs[0].shape == ir.Shape(["batch", "sequence"])


@pytest.mark.parametrize(
    ("inputs", "node", "flops"),
    [
        ("float[2, 3, 4] x", "y = MatMul (x, w)", {"MatMul": 2.0 * 2 * 3 * 4 * 2}),
        ("float[5, 4] x", "y = Gemm (x, w)", {"Gemm": 2.0 * 5 * 4 * 2}),
        ("float[4, 5] x", "y = Gemm <transA = 1> (x, w)", {"Gemm": 2.0 * 5 * 4 * 2}),
        ("float[5, 2] x", "y = Gemm <transB = 1> (x, w)", {"Gemm": 2.0 * 5 * 4 * 2}),
        ("float[b, 4] x", "y = MatMul (x, w)", {}),
        ("float[1, 3, 8, 8] x", "y = Conv (x, k)", {"Conv": 2.0 * 6 * 6 * 2 * 3 * 3 * 3}),
        ("float[5, 4] x", "y = Relu (x)", {}),
    ],
)
def test_matrix_flops(inputs: str, node: str, flops: dict[str, float]) -> None:
    numbers = ", ".join(["1"] * 54)
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g ({inputs}) => (y)
        <float[4, 2] w = {{1, 1, 1, 1, 1, 1, 1, 1}}, float[2, 3, 3, 3] k = {{{numbers}}}>
        {{ {node} }}
    """)
    assert matrix_flops(model, infer(model, {})) == flops


def test_flops_of_an_encoder(bert: ir.Model) -> None:
    batch, sequence, width = 2, 7, 16
    tokens = batch * sequence
    layer = 2 * tokens * width * width * (4 + 4) + 4 * tokens * sequence * width
    flops = matrix_flops(bert, infer(bert, {"batch": batch, "sequence": sequence}))
    assert flops == {"MatMul": 2.0 * layer, "Gemm": 2.0 * batch * width * 3}
