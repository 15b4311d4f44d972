"""bfloat16 on processors: every value is rounded as the type rounds, and nothing else changes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from harness import run_model
from samples import parse

from burnish.optimizer.emulation import emulated

SHORT = ml_dtypes.bfloat16


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(SHORT).astype(np.float32)


def typed(text: str) -> ir.Model:
    """A model whose values say their types."""
    model = parse(text)
    for node in model.graph:
        for value in node.outputs:
            if (value.name or "").startswith("short"):
                value.type = ir.TensorType(ir.DataType.BFLOAT16)
    return model


def numbers() -> np.ndarray:
    """Of all sizes, ties between two neighbours, and what is beyond the largest."""
    random = np.random.default_rng(0)
    spread = random.standard_normal(500) * 10.0 ** random.integers(-44, 38, 500)
    ties = (1 + np.arange(1, 200, 2) / 256) * 2.0 ** random.integers(-30, 30, 100)
    special = [3.4028235e38, -3.4028235e38, 3.39e38, np.inf, -np.inf, np.nan, 0.0, -0.0]
    return np.concatenate([spread, ties, special]).astype(np.float32)[None]


@pytest.mark.parametrize("optimize", [False, True])
def test_values_are_rounded_as_the_type_rounds(optimize: bool) -> None:
    model = typed("""
        <ir_version: 10, opset_import: ["" : 21]>
        a (float[1, n] x) => (float[1, n] y) {
            short_x = Cast <to = 16> (x)
            short_y = Neg (short_x)
            y = Cast <to = 1> (short_y)
        }
    """)
    found = run_model(emulated(model), [{"x": numbers()}], optimize=optimize)[0]["y"]
    np.testing.assert_array_equal(found, -rounded(numbers()))


def test_each_result_is_rounded() -> None:
    """Products in float32 of what is rounded; the values keep their names."""
    model = typed("""
        <ir_version: 10, opset_import: ["" : 21]>
        a (float[4, 3] x) => (float[4, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
            short_x = Cast <to = 16> (x)
            short_p = MatMul (short_x, w)
            short_q = Mul (short_p, short_p)
            y = Cast <to = 1> (short_q)
        }
    """)
    weight = np.random.default_rng(1).standard_normal((3, 2)).astype(SHORT)
    value = model.graph.initializers["w"]
    value.const_value, value.type = ir.Tensor(weight), ir.TensorType(ir.DataType.BFLOAT16)
    x = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    after = emulated(model)
    first = rounded(rounded(x) @ weight.astype(np.float32))
    np.testing.assert_array_equal(run_model(after, [{"x": x}])[0]["y"], rounded(first * first))
    names = {value.name for node in after.graph for value in node.outputs}
    assert {"short_x", "short_p", "short_q", "y"} <= names
    assert [node.op_type for node in model.graph] == ["Cast", "MatMul", "Mul", "Cast"]


def test_what_only_stores_stays(bert: ir.Model) -> None:
    assert emulated(bert) is bert
    model = typed("""
        <ir_version: 10, opset_import: ["" : 21]>
        a (float[1, n] x) => (float[1, n] y) { short_x = Cast <to = 16> (x)
                                              y = Cast <to = 1> (short_x) }
    """)
    assert emulated(model) is model
