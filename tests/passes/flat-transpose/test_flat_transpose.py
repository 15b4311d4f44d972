"""Sizes that are not those of the axes, and other readers, leave the reshapes in place."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from harness import make_context
from samples import parse

from burnish.optimizer.analysis.extents import extents
from burnish.optimizer.regions import identical
from burnish.passes.recover.flat_transpose import FlatTranspose

KEYS = Path(__file__).with_name("keys.before.onnxtxt").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Concat <axis = 0> (all, rows, width)", "Concat <axis = 0> (all, width, rows)"),
        ("Concat <axis = 0> (others, width, rows)", "Concat <axis = 0> (others, rows, width)"),
        ("Concat <axis = 0> (others, width, rows)", "Concat <axis = 0> (all, width, rows)"),
        ("Slice (sizes, first, from)", "Slice (sizes, first, first)"),
        ("int64[1] width = {4}", "int64[1] width = {2}"),
    ],
)
def test_refuses_other_sizes(old: str, new: str) -> None:
    assert old in KEYS
    model = parse(KEYS.replace(old, new))
    before = model.clone()
    outcome = FlatTranspose().apply(model, make_context())
    assert outcome.rewrites == 0
    assert len(outcome.refusals) == 1
    assert identical(before, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("perm = [0, 2, 1]", "perm = [2, 0, 1]"),
        ("(float[batch, 2, 4, length] y)", "(float[batch, 2, 4, length] y, swapped)"),
        ("[batch, 2, length, 4] x", "[batch, length, 4] x"),
    ],
)
def test_leaves_what_is_no_flat_transpose(old: str, new: str) -> None:
    assert old in KEYS
    outcome = FlatTranspose().apply(parse(KEYS.replace(old, new)), make_context())
    assert (outcome.rewrites, outcome.refusals) == (0, ())


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("v = Shape (x)", ["batch", 2, "length", 4]),
        ("v = Shape <start = 1, end = -1> (x)", [2, "length"]),
        ("s = Shape (x) v = Slice (s, one, three)", [2, "length"]),
        ("s = Shape (x) v = Slice (s, three, one, zero, minus)", None),
        ("s = Shape (x) v = Gather (s, two)", ["length"]),
        ("s = Shape (x) g = Gather (s, two) v = Unsqueeze (g, zero)", ["length"]),
        ("s = Shape (x) g = Gather (s, two) v = Concat <axis = 0> (g, three)", ["length", 3]),
        ("s = Shape (x) v = Add (s, s)", None),
        ("s = Shape (x) v = Slice (s, unknown, three)", None),
    ],
)
def test_extents(operation: str, expected: list[str | int] | None) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[batch, 2, length, 4] x, int64[1] unknown) => (v)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] three = {{3}},
         int64[1] minus = {{-1}}>
        {{ {operation} }}
    """)
    (value,) = model.graph.outputs
    assert extents(value) == expected


def test_a_size_without_a_symbol_is_that_of_its_axis() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 18]>
        sizes (float[batch, 2] x) => (v) { n = NonZero (x) v = Shape (n) }
    """)
    (value,) = model.graph.outputs
    (found,) = [node.outputs[0] for node in model.graph if node.op_type == "NonZero"]
    found.shape = ir.Shape([2, None])
    assert extents(value) == [2, (found, 1)]
