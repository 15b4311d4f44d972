"""Which activations are found in a graph, and which of them gate another product."""

from __future__ import annotations

import pytest
from samples import parse

from burnish.optimizer.analysis.activation.activations import find_activations

FRAME = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
unit (float[b, s, 2] x, float[b, s, 2] other) => (float[b, s, 2] y)
<float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {1, 0, 2, 1},
 float[2, 4] wide = {1, 2, 3, 4, 5, 6, 7, 8},
 float[2] bias = {1, 2}, float two = {2}, float quick = {1.702}, int64[2] parts = {2, 2}>
{
  BODY
}
"""

PAIR = "g = MatMul (x, w) u = MatMul (x, v) "
PACKED = "p = MatMul (x, wide) g, u = Split <axis = -1> (p, parts) "


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ("y = Gelu (x)", ["gelu-erf"]),
        ('y = Gelu <approximate = "tanh"> (x)', ["gelu-tanh"]),
        ("s = Sigmoid (x) y = Mul (s, x)", ["silu"]),
        ("k = Mul (quick, x) s = Sigmoid (k) y = Mul (x, s)", ["quick-gelu"]),
        ("k = Mul (two, x) s = Sigmoid (k) y = Mul (x, s)", []),
        ("y = Relu (x)", ["relu"]),
        ("r = Relu (x) y = Mul (r, r)", ["squared-relu"]),
        ("r = Relu (x) y = Pow (r, two)", ["squared-relu"]),
        ("y = HardSwish (x)", ["hard-swish"]),
        ("y = com.microsoft.QuickGelu (x)", ["quick-gelu"]),
        ("y = com.microsoft.Relu (x)", []),
        ("y = Sigmoid (x)", []),
        ("y = Tanh (x)", []),
        (PAIR + "s = Sigmoid (g) h = Mul (g, s) y = Mul (h, u)", ["swiglu"]),
        (PAIR + "f = Add (bias, g) s = Sigmoid (f) h = Mul (f, s) y = Mul (u, h)", ["swiglu"]),
        (PACKED + "s = Sigmoid (g) h = Mul (g, s) y = Mul (u, h)", ["swiglu"]),
        (PACKED + "h = Gelu (g) y = Mul (h, u)", ["geglu"]),
        (PAIR + "h = Relu (g) y = Mul (h, u)", ["reglu"]),
        (PAIR + "h = Elu (g) y = Mul (h, u)", ["gated-elu"]),
        (PAIR + "h = Sigmoid (g) y = Mul (h, u)", ["glu"]),
        ("g = MatMul (x, w) u = MatMul (other, v) h = Gelu (g) y = Mul (h, u)", ["gelu-erf"]),
        ("g = MatMul (x, w) h = Gelu (g) y = Mul (h, x)", ["gelu-erf"]),
    ],
)
def test_kinds(body: str, kinds: list[str]) -> None:
    assert [found.kind for found in find_activations(parse(FRAME.replace("BODY", body)))] == kinds


def test_the_gate_is_named() -> None:
    model = parse(FRAME.replace("BODY", PAIR + "h = Gelu (g) y = Mul (h, u)"))
    (found,) = find_activations(model)
    assert found.gate is not None
    assert found.gate.outputs[0].name == "y"
    assert found.source.name == "g"
    assert found.node.op_type == "Gelu"
