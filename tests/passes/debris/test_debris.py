"""What changes something stays: sizes that may differ, casts that round, orders that change."""

from __future__ import annotations

import pytest
from harness import make_context
from samples import parse

from burnish.optimizer.regions import identical
from burnish.passes.recover.debris import Debris


def apply(nodes: str) -> tuple[int, list[str]]:
    """Rewrites, and the operators afterwards, of nodes from x (and w, of other sizes) to y."""
    model = parse(f"""
        <ir_version: 11, opset_import: ["" : 23]>
        debris (float[batch, length, 6] x, float[rows, length, 6] w, float16[batch] h) => (y)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] minus = {{-1}},
         int64[1] five = {{5}},
         int64[2] flat = {{-1, 6}}, int64[3] split = {{0, 0, 6}}, int64[2] pair = {{0, -1}},
         int64[1] end = {{9223372036854775807}}>
        {{ {nodes} }}
    """)
    before = model.clone()
    done = Debris().apply(model, make_context()).rewrites
    assert done or identical(before, model)
    return done, [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Shape (w) a = Reshape (x, s) y = Relu (a)",  # nor need its product be the same
        "s = Shape (w) a = Expand (x, s) y = Relu (a)",  # rows need not be batch
        "a = Slice (x, zero, five, one) y = Relu (a)",
        "a = Slice (x, minus, zero, one, minus) y = Relu (a)",  # backwards
        "a = Cast <to = 10> (x) b = Cast <to = 1> (a) y = Relu (b)",  # rounds on the way
        "a = Transpose <perm = [1, 0, 2]> (x) y = Relu (a)",
        "a = Reshape (x, flat) y = Reshape (a, pair)",  # an output keeps its name
        "y = Cast <to = 1> (x)",
    ],
)
def test_leaves(nodes: str) -> None:
    assert apply(nodes)[0] == 0


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("a = Reshape (x, flat) b = Reshape (a, flat) y = Relu (b)", ["Reshape", "Relu"]),
        ("s = Shape (x) a = Reshape (x, flat) b = Reshape (a, s) y = Relu (b)", ["Relu"]),
        ("a = Cast <to = 1> (h) b = Cast <to = 11> (a) y = Relu (b)", ["Cast", "Relu"]),
        ("a = Transpose <perm = [1, 0, 2]> (x) b = Transpose <perm = [0, 2, 1]> (a) y = Relu (b)",
         ["Transpose", "Relu"]),
        ("a = Unsqueeze (x, one) b = Squeeze (a, one) y = Relu (b)", ["Relu"]),
        ("s = Shape (x) a = Expand (x, s) y = Relu (a)", ["Relu"]),
        ("s = Shape (x) t = Shape (x) a = Add (s, t) b = Add (t, s) y = Sub (a, b)",
         ["Shape", "Add", "Sub"]),
        ("s = Shape (x) b = Gather (s, minus) y = Add (b, one)", ["Add"]),
    ],
)  # fmt: skip
def test_removes(nodes: str, expected: list[str]) -> None:
    done, operators = apply(nodes)
    assert done > 0
    assert operators == expected
