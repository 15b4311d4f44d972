"""Sizes as symbols, through what exporters write for shapes."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis import shapes

HEAD = '<ir_version: 11, opset_import: ["" : 23]> m (float[batch, sequence, 64] x) => (y) '


def shape_of(body: str, name: str = "y") -> list[object]:
    model = parse(HEAD + "{" + body + "}")
    shapes.annotate(model)
    value = next(
        item for node in model.graph for item in node.outputs if item.name in (name, f"_{name}")
    )
    assert value.shape is not None
    return [size if isinstance(size, int) else size.value for size in value.shape]


SIZES = """
  b = Shape <start = 0, end = 1> (x) s = Shape <start = 1, end = 2> (x)
  less = Constant <value_ints = [-1]> () size = Constant <value_ints = [16]> ()
  three = Constant <value_ints = [3]> () one = Constant <value_ints = [1]> ()
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "t = Concat <axis = 0> (b, s, less, size) z = Reshape (x, t)",
            ["batch", "sequence", 4, 16],
        ),
        ("t = Concat <axis = 0> (b, less, size) z = Reshape (x, t)", ["batch", "4*sequence", 16]),
        (
            "n = Mul (b, s) t = Concat <axis = 0> (n, less) z = Reshape (x, t)",
            ["batch*sequence", 64],
        ),
        ("z = Unsqueeze (x, one)", ["batch", 1, "sequence", 64]),
        ("z = Transpose <perm = [0, 2, 1]> (x)", ["batch", 64, "sequence"]),
        (
            "w = Transpose <perm = [0, 2, 1]> (x) z = MatMul (x, w)",
            ["batch", "sequence", "sequence"],
        ),
        ("z = Concat <axis = 1> (x, x)", ["batch", "2*sequence", 64]),
        (
            "t = Concat <axis = 0> (one, s, less) e = Equal (t, less) z0 = Where (e, one, t) "
            "u = Unsqueeze (b, one) z = Expand (u, z0)",
            [1, "sequence", 1],
        ),
    ],
)
def test_follows_vectors_of_sizes(body: str, expected: list[object]) -> None:
    assert shape_of(SIZES + body + " y = Identity (z)", "z") == expected


def test_an_open_size_is_shared_by_what_has_it() -> None:
    body = "n = NonZero (x) z = Cast <to = 1> (n) w = Sqrt (z) y = Identity (w)"
    assert shape_of(body, "z") == shape_of(body, "w")
    assert all(shape_of(body, "w"))


def test_declared_outputs_stay(bert: ir.Model) -> None:
    before = [str(value.shape) for value in bert.graph.outputs]
    shapes.annotate(bert)
    assert [str(value.shape) for value in bert.graph.outputs] == before
