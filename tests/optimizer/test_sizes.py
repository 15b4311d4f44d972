"""Shapes as polynomials: what operators make of the sizes of the inputs."""

from __future__ import annotations

import pytest
from samples import parse

from burnish.optimizer.analysis.size import Size
from burnish.optimizer.analysis.sizes import Sizes

N, M = Size.atom("n"), Size.atom("m")


def test_arithmetic() -> None:
    assert (N + M) * (N - M) == N * N - M * M
    assert (N * M * Size.of(6)).divided(M * Size.of(2)) == N * Size.of(3)
    assert (N + Size.of(1)).divided(Size.of(2)) is None
    assert N.divided(M) is None
    assert (N - N).number == 0
    assert Size.of(7).floored(Size.of(2)).number == 3
    assert N.floored(Size.of(2)) == N.floored(Size.of(2)) != N
    assert not (N - M).is_natural


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("v = Reshape (x, shape)", (N, M, Size.of(3), Size.of(4))),
        ("v = Reshape (x, flat)", (N * M, Size.of(12))),
        ("v = Transpose <perm = [1, 0, 2]> (x)", (M, N, Size.of(12))),
        ("v = Concat <axis = 1> (x, x)", (N, M + M, Size.of(12))),
        ("v = Slice (x, one, end, two)", (N, M, Size.of(11))),
        ("v = Flatten <axis = 2> (x)", (N * M, Size.of(12))),
        ("v = MatMul (x, w)", (N, M, Size.of(5))),
        ("v = ReduceSum <keepdims = 0> (x, one)", (N, Size.of(12))),
        ("s = Shape (x) l = Gather <axis = 0> (s, i) v = Range (z, l, i)", (M,)),
        ("s = Shape (x) l = Gather <axis = 0> (s, two) h = Div (l, four) v = Expand (u, h)",
         (Size.of(3),)),
        ("s = Shape (x) e = Equal (s, minus) t = Where (e, one, s) v = ConstantOfShape (t)",
         (N, M, Size.of(12))),
        ("a, v = Split <axis = 2, num_outputs = 2> (x)", (N, M, Size.of(6))),
    ],
)  # fmt: skip
def test_shapes(nodes: str, expected: tuple[Size, ...]) -> None:
    model = parse(f"""
        <ir_version: 11, opset_import: ["" : 23]>
        sizes (float[n, m, 12] x, float[1] u, float[12, 5] w) => (v)
        <int64[4] shape = {{0, 0, -1, 4}}, int64[2] flat = {{-1, 12}}, int64[1] one = {{1}},
         int64[1] two = {{2}}, int64[1] end = {{99}}, int64[1] four = {{4}},
         int64[1] minus = {{-1}}, int64 i = {{1}}, int64 z = {{0}}>
        {{ {nodes} }}
    """)
    assert Sizes.of(model).shape(model.graph.outputs[0]) == expected
