"""Axes over tokens, what a mask makes of padded positions, and sizes that are computed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis.probe import Probe
from burnish.optimizer.analysis.tokens import padded
from burnish.optimizer.analysis.tokens.layout import Axis, Layout
from burnish.optimizer.analysis.tokens.padded import Padded

B, S, T = Axis.BATCH, Axis.SEQUENCE, Axis.TOKENS


def model(body: str, constants: str = "") -> ir.Model:
    return parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[b, s] mask, float[b, s, 6] x, float[b, s, s] scores) => (float y)
        <int64 zero = {{0}}, int64 one = {{1}}, int64[1] minus = {{-1}}, int64[1] axis1 = {{1}},
         int64[2] axes12 = {{1, 2}}, float unit = {{1.0}}, float low = {{-3.0e38}} {constants}>
        {{ {body} }}
    """)


def value(graph: ir.Graph, name: str) -> ir.Value:
    found = {item.name: item for node in graph for item in node.outputs}
    return found[name]


def test_sizes_are_computed_through_scalars() -> None:
    found = model("""
        size = Shape (mask) length = Gather (size, one) range = Range (zero, length, one)
        flat = Reshape (x, minus) ends = Unsqueeze (length, zero_axis)
        head = Slice (range, zero_axis, ends) y = Cast <to = 1> (head)
    """, ", int64[1] zero_axis = {0}")  # fmt: skip
    probe = Probe(found, {"b": 3, "s": 5})
    assert probe.shape(value(found.graph, "flat")) == (90,)
    assert probe.shape(value(found.graph, "y")) == (5,)
    elements = probe.elements(value(found.graph, "head"))
    assert elements is not None
    np.testing.assert_array_equal(elements, np.arange(5))


@pytest.mark.parametrize(
    ("body", "dims"),
    [
        ("y = Identity (x)", (B, S, 6)),
        ("y = Reshape (x, shape)", (T, 6)),
        ("y = Transpose <perm = [2, 1, 0]> (x)", (6, S, B)),
        ("y = Concat <axis = 1> (x, x)", (B, Axis.OTHER, 6)),
        ("y = MatMul (scores, x)", (B, S, 6)),
    ],
)
def test_axes_are_recognized(body: str, dims: tuple[object, ...]) -> None:
    found = model(body, ", int64[2] shape = {-1, 6}")
    layout = Layout(found, found.graph.inputs[0])
    assert layout.dims(value(found.graph, "y")) == dims


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ("y = Cast <to = 1> (mask)", {1: Padded(0.0, True)}),
        ("n = Cast <to = 1> (mask) y = Sub (unit, n)", {1: Padded(1.0, True)}),
        ("k = Unsqueeze (mask, axes12) y = Cast <to = 9> (k)", {3: Padded(0.0, True)}),
        (
            "k = Unsqueeze (mask, axis1) n = Cast <to = 9> (k) m = Where (n, unit, low) "
            "a = Add (scores, m) y = Softmax <axis = -1> (a)",
            {2: Padded(0.0, True)},
        ),
        (
            "k = Unsqueeze (mask, axis1) n = Cast <to = 9> (k) m = Where (n, low, unit) "
            "a = Add (scores, m) y = Softmax <axis = -1> (a)",
            {},
        ),
        ("n = Cast <to = 1> (mask) y = Add (n, unit)", {1: Padded(1.0, True)}),
        ("k = Unsqueeze (mask, axis1) n = Cast <to = 1> (k) y = Mul (scores, n)",
         {2: Padded(0.0, True)}),
        # The mask's sequences are along another axis than those of the scores.
        ("t = Transpose <perm = [1, 0]> (mask) k = Unsqueeze (t, axis1) n = Cast <to = 1> (k) "
         "o = Transpose <perm = [1, 2, 0]> (scores) y = Mul (o, n)", {0: Padded(0.0, True)}),
        ("t = Transpose <perm = [1, 0]> (mask) y = Cast <to = 1> (t)", {0: Padded(0.0, True)}),
        ("f = Reshape (mask, minus) y = Cast <to = 1> (f)", {0: Padded(0.0, True)}),
        ("y = CumSum (mask, one)", {}),
    ],
)  # fmt: skip
def test_what_a_mask_makes_of_padded_positions(body: str, facts: dict[int, Padded]) -> None:
    found = model(body)
    mask = found.graph.inputs[0]
    known = padded.find(found, Layout(found, mask), mask)
    assert known.get(value(found.graph, "y"), {}) == facts


@pytest.mark.parametrize(("start", "known"), [("zero", True), ("one", False)])
def test_a_mask_looked_up_at_its_own_places(start: str, known: bool) -> None:
    found = model(f"""
        size = Shape (mask) rows = Gather (size, zero) length = Gather (size, one)
        end = Add (length, {start}) k = Range ({start}, end, one) r = Range (zero, rows, one)
        column = Unsqueeze (r, axis1) first = Mul (column, length) place = Add (first, k)
        flat = Reshape (mask, minus) y = Gather (flat, place)
    """)
    mask = found.graph.inputs[0]
    facts = padded.find(found, Layout(found, mask), mask)
    assert facts.get(value(found.graph, "y"), {}) == ({1: Padded(0.0, True)} if known else {})
