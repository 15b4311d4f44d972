"""Shapes as polynomials: what operators make of the sizes of the inputs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis.sizes import Size, Sizes

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
        ("l = Unsqueeze (x, minus) v = DFT (l, , i)", (N, M, Size.of(12), Size.of(2))),
        ("l = Unsqueeze (x, minus) v = DFT <onesided = 1> (l, , i2)",
         (N, M, Size.of(7), Size.of(2))),
        ("l = Unsqueeze (x, minus) d = DFT <onesided = 1> (l, nine, i2)"
         "v = DFT <onesided = 1, inverse = 1> (d, , i2)", (N, M, Size.of(8), Size.of(1))),
    ],
)  # fmt: skip
def test_shapes(nodes: str, expected: tuple[Size, ...]) -> None:
    model = parse(f"""
        <ir_version: 11, opset_import: ["" : 23]>
        sizes (float[n, m, 12] x, float[1] u, float[12, 5] w) => (v)
        <int64[4] shape = {{0, 0, -1, 4}}, int64[2] flat = {{-1, 12}}, int64[1] one = {{1}},
         int64[1] two = {{2}}, int64[1] end = {{99}}, int64[1] four = {{4}},
         int64[1] minus = {{-1}}, int64 i = {{1}}, int64 z = {{0}},
         int64 nine = {{9}}, int64 i2 = {{2}}>
        {{ {nodes} }}
    """)
    assert Sizes.of(model).shape(model.graph.outputs[0]) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("v = Shape (x)", ("batch", 2, "length", 4)),
        ("v = Shape <start = 1, end = -1> (x)", (2, "length")),
        ("s = Shape (x) v = Slice (s, one, three)", (2, "length")),
        ("s = Shape (x) v = Slice (s, three, one, zero, minus)", None),
        ("s = Shape (x) v = Gather (s, two)", ("length",)),
        ("s = Shape (x) g = Gather (s, two) v = Unsqueeze (g, zero)", ("length",)),
        ("s = Shape (x) g = Gather (s, two) v = Concat <axis = 0> (g, three)", ("length", 3)),
        ("s = Shape (x) v = Mod (s, s)", None),
        ("s = Shape (x) v = Slice (s, unknown, three)", None),
    ],
)
def test_elements(operation: str, expected: tuple[str | int, ...] | None) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[batch, 2, length, 4] x, int64[1] unknown) => (v)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] three = {{3}},
         int64[1] minus = {{-1}}>
        {{ {operation} }}
    """)
    elements = Sizes.of(model).elements(model.graph.outputs[0])
    wanted = [
        Size.of(item) if isinstance(item, int) else Size.atom(item) for item in expected or ()
    ]
    assert elements == (tuple(wanted) if expected is not None else None)


def test_an_unknown_size_is_equal_to_itself_only() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[batch, 2] x) => (v) { n = NonZero (x) m = NonZero (x) v = Shape (n) }
    """)
    sizes = Sizes.of(model)
    first, second, shape = (node.outputs[0] for node in model.graph)
    assert sizes.elements(shape) == sizes.shape(first) != sizes.shape(second)


def test_sizes_that_inputs_declare_as_sums_are_sums() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[past, 2] x, float[n, 2] y, float[total, 2] z) => (v)
        { v = Concat <axis = 0> (x, y) }
    """)
    model.graph.inputs[2].shape = ir.Shape(["past + n", 2])
    sizes = Sizes.of(model)
    assert sizes.shape(model.graph.outputs[0]) == sizes.shape(model.graph.inputs[2])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("p", "t", N), ("p", "far", N), ("zero", "p", Size.atom("past")), ("n", "p", None),
     ("minus", "far", None)],
)  # fmt: skip
def test_a_part_that_lies_inside_is_as_long_as_its_ends_say(
    start: str, end: str, expected: Size | None
) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[past] x, float[n] y, float[total] z) => (v)
        <int64[1] zero = {{0}}, int64[1] minus = {{-1}}, int64[1] far = {{9223372036854775807}}>
        {{ p = Shape (x) n = Shape (y) t = Add (p, n) v = Slice (z, {start}, {end}, zero) }}
    """)
    model.graph.inputs[2].shape = ir.Shape(["past + n"])
    value = model.graph.outputs[0]
    found = Sizes.of(model).shape(value)
    assert found == (expected if expected is not None else Size.atom((id(value), 0)),)


def test_a_part_of_a_table_is_as_long_as_what_it_meets() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[batch, n, 4] x, float[512, 4] table) => (v)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}>
        { s = Shape (x) n = Slice (s, one, two) rows = Slice (table, zero, n) v = Add (x, rows) }
    """)
    sizes = Sizes.of(model)
    rows = next(node.outputs[0] for node in model.graph if node.outputs[0].name == "rows")
    assert sizes.shape(rows) == (N.least(512), Size.of(4))
    assert sizes.shape(model.graph.outputs[0]) == (Size.atom("batch"), N, Size.of(4))
