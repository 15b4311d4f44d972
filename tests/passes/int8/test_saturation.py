"""Sums of two products in 16 bits: emulated, bounded, and kept out of the weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import last_form, make_context, run_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer.contract import relative_l2
from burnish.passes.compress.error_feedback import Feedback, Grid, rounded
from burnish.passes.compress.int8 import saturation, weights
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.int8.rounding import rounded_weight
from burnish.passes.compress.int8.saturation import can_saturate, product, saturates

WORST = np.uint8(255)


def exact(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left.astype(np.int64) @ right.astype(np.int64)


def some(rows: int, k: int, n: int, top: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """Large activations [rows, k] and weights [k, n] of at most `top`."""
    random = np.random.default_rng(k)
    left = random.integers(150, 256, (rows, k), np.uint8)
    return left, random.integers(-top, top + 1, (k, n), np.int8)


# The emulation


@pytest.mark.parametrize("k", [1, 2, 7, 64])
def test_the_product_is_exact_where_nothing_saturates(k: int) -> None:
    left, right = some(5, k, 9, top=64)
    np.testing.assert_array_equal(product(left, right), exact(left, right))


@pytest.mark.parametrize(
    ("activations", "column", "expected"),
    [
        ([255, 255], [127, 127], 32767),
        ([255, 255], [-127, -127], -32768),
        ([255, 255], [64, 64], 32640),
        ([255, 255], [64, 65], 32767),
        ([255, 255], [-128, -1], -32768),
        ([255, 255], [127, -127], 0),
        ([0, 255], [127, 127], 255 * 127),
        # The neighbours are 0 and 1, 2 and 3; sums of pairs are wide.
        ([255, 0, 0, 255], [127, 127, 127, 127], 2 * 255 * 127),
        ([0, 255, 255, 0], [127, 127, 127, 127], 2 * 255 * 127),
        ([255, 255, 255, 255], [127, 127, 127, 127], 2 * 32767),
        ([255, 255, 255, 255], [127, 127, -127, -127], -1),
        # The last one of an odd number has no neighbour.
        ([255, 255, 255], [0, 127, 127], 2 * 255 * 127),
    ],
)
def test_pairs(activations: list[int], column: list[int], expected: int) -> None:
    left, right = np.array([activations], np.uint8), np.array([column], np.int8).T
    assert product(left, right).tolist() == [[expected]]


KERNELS = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name + ".onnx", options)
    np.save(name + ".out.npy", session.run(None, {"x": np.load(name + ".npy")})[0])
"""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="its processor has AVX2 and no more")
def test_the_kernels_of_onnx_runtime_saturate_so(tmp_path: Path) -> None:
    """Valgrind runs them on a processor without VNNI; zero points are subtracted afterwards."""
    cases = {}
    for rows, k, n in ((1, 33, 40), (1, 8, 5), (3, 7, 5), (25, 385, 50)):
        for zero in (0, 77):
            left, right = some(rows, k, n)
            name = str(tmp_path / f"{rows}-{k}-{zero}")
            model = parse(f"""
                <ir_version: 8, opset_import: ["" : 17]>
                g (uint8[r, {k}] x) => (int32[r, {n}] y)
                <uint8 zero = {{{zero}}}, int8[{k}, {n}] w = {{{", ".join(map(str, right.flat))}}}>
                {{ y = MatMulInteger (x, w, zero) }}
            """)
            onnx.save(ir.to_proto(model), f"{name}.onnx")
            np.save(f"{name}.npy", left)
            cases[name] = product(left, right) - zero * right.sum(0, dtype=np.int32)
            assert (cases[name] != exact(left.astype(np.int64) - zero, right)).any()
    command = ["valgrind", "--tool=none", sys.executable, "-c", KERNELS, *cases]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    for name, expected in cases.items():
        np.testing.assert_array_equal(np.load(f"{name}.out.npy"), expected)


# The bound


@given(arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 4))))
def test_the_bound_is_sound_and_tight(right: np.ndarray) -> None:
    """The worst activations of a column are 255 wherever the weight has one sign, else 0."""
    n = right.shape[1]
    for sign in (1, -1):
        left = np.where(np.sign(right.T) == sign, WORST, 0).astype(np.uint8)
        differ = np.diag(product(left, right) != exact(left, right))
        assert not differ[~can_saturate(right)].any()
    worst = [np.where(np.sign(right.T) == sign, WORST, 0).astype(np.uint8) for sign in (1, -1)]
    found = [np.diag(product(left, right) != exact(left, right)) for left in worst]
    np.testing.assert_array_equal(found[0] | found[1], can_saturate(right))
    left = np.random.default_rng(n).integers(0, 256, (20, len(right)), np.uint8)
    safe = right[:, ~can_saturate(right)]
    np.testing.assert_array_equal(product(left, safe), exact(left, safe))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([64, 64], False),
        ([64, 65], True),
        ([127, 1], False),
        ([127, 2], True),
        ([-64, -64], False),
        ([-64, -65], True),
        ([127, -127], False),
        ([1, 127, 127, 1], False),
        ([-128], False),
    ],
)
def test_where_the_bound_lies(column: list[int], expected: bool) -> None:
    assert can_saturate(np.array([column], np.int8).T).tolist() == [expected]


def test_columns_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, right = some(1, 4, 50, top=90)
    whole = can_saturate(right)
    assert 0 < whole.sum() < 50
    monkeypatch.setattr(saturation, "CHUNK", 12)
    np.testing.assert_array_equal(can_saturate(right), whole)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = MatMulInteger (a, w)", True),
        ("y = MatMulInteger (a, safe)", False),
        ("t = Transpose <perm = [1, 0]> (w) y = MatMulInteger (a, t)", False),
        ("t = Transpose <perm = [1, 0]> (safe) y = MatMulInteger (a, t)", True),
        ("y = MatMulInteger (a, a)", False),
    ],
)
def test_which_models_can_saturate(nodes: str, expected: bool) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (uint8[2, 2] a) => (int32[2, 2] y)
        <int8[2, 2] w = {{100, -5, 100, 5}}, int8[2, 2] safe = {{100, 100, -5, 5}}>
        {{ {nodes} }}
    """)
    assert saturates(model) == expected


# Weights


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 4)),
        elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
    )
)
def test_no_two_neighbours_saturate(matrix: np.ndarray) -> None:
    for axis, array in ((1, matrix), (0, np.ascontiguousarray(matrix.T))):
        scales = weights.channel_scales(array, axis, saturating=True)
        values = weights.round_to_int8(array, scales, axis)
        assert not can_saturate(values if axis else values.T).any()


def test_a_column_gives_up_what_its_neighbours_ask_for() -> None:
    """Nothing where a large weight stands beside a small one or one of the other sign."""
    matrix = np.array([[2, 2, 2, 2], [0, -2, 2, 1], [1, 1, 1, 1]], np.float32)
    scales = weights.channel_scales(matrix, 1, saturating=True)
    np.testing.assert_allclose(scales * 127, [2, 2, 4, 3], rtol=1e-6)
    np.testing.assert_array_equal(
        weights.channel_scales(np.ascontiguousarray(matrix.T), 0, saturating=True), scales
    )


def test_ranges_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).standard_normal((37, 11), np.float32)
    for axis in (0, 1):
        whole = weights.channel_scales(matrix, axis, saturating=True)
        with monkeypatch.context() as patch:
            patch.setattr(weights, "CHUNK", 36)
            np.testing.assert_array_equal(
                weights.channel_scales(matrix, axis, saturating=True), whole
            )


@pytest.mark.parametrize("saturating", [False, True])
def test_operands(saturating: bool) -> None:
    matrix = np.random.default_rng(0).standard_normal((97, 40), np.float32)
    made = weights.operand([(ir.tensor(matrix), False)], saturating=saturating)
    values = made.values.numpy()
    assert can_saturate(values).any() == (not saturating)
    assert relative_l2(matrix, values * made.scales) < 0.012


@pytest.mark.parametrize("saturating", [False, True])
def test_error_feedback_keeps_to_the_bound(saturating: bool) -> None:
    """The third channel follows the first, and makes up for its rounding at a twentieth of its
    size: by whole steps."""
    random = np.random.default_rng(0)
    matrix = random.uniform(0.9, 1, (96, 200)).astype(np.float32)
    matrix[1] = 0
    rows = 0.01 * random.standard_normal((300, 96))
    rows[:, 0] = random.standard_normal(300)
    rows[:, 2] = 0.05 * rows[:, 0]
    tensors = [(ir.tensor(matrix), False)]
    values = weights.operand(tensors, feedback=Feedback(rows), saturating=saturating).values.numpy()
    assert can_saturate(values).any() == (not saturating)
    nearest = weights.operand(tensors, saturating=saturating).values.numpy()
    steps = np.abs(values[2].astype(int) - nearest[2]).max()
    assert steps > 1
    free = Grid(weights.channel_scales(matrix, 1, saturating=True)[None], 0, 96, -127, 127)
    assert can_saturate(rounded(matrix, Feedback(rows), free).astype(np.int8)).any()


def _tied(*, product: bool) -> ir.Model:
    b = Builder()
    b.input("ids", TensorProto.INT64, ["batch"])
    b.normal("words", 1024, 16)
    b.op("Gather", ["words", "ids"], "rows")
    b.op("Tanh", ["rows"], "hidden")
    if product:
        b.op("Transpose", ["words"], "transposed", perm=[1, 0])
        b.op("MatMul", ["hidden", "transposed"], "y")
    else:
        b.op("Identity", ["hidden"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 1024 if product else 16])
    return b.model()


@pytest.mark.parametrize("tied", [True, False])
def test_only_tables_that_are_multiplied_have_neighbours(tied: bool) -> None:
    model = _tied(product=tied)
    DynamicInt8().apply(model, make_context(last_form, saturating=True))
    table = model.graph.initializers["words_int8"].const_value.numpy()
    assert can_saturate(table.T).any() == (not tied)
    assert not saturates(model)


@pytest.mark.parametrize("saturating", [False, True])
def test_a_model_computes_the_same_where_sums_are_narrow(saturating: bool) -> None:
    """With bright activations, which pairs of large weights saturate on."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 64])
    b.linear("x", "y", 64, 32)
    b.output("y", TensorProto.FLOAT, ["batch", 32])
    model = b.model()
    x = np.random.default_rng(0).uniform(0.5, 1, (16, 64)).astype(np.float32)
    DynamicInt8().apply(model, make_context(last_form, saturating=saturating))
    assert saturates(model) == (not saturating)
    (node,) = (node for node in model.graph if node.op_type == "MatMulInteger")
    given, operand, zero = node.inputs
    for value in (given, zero, node.outputs[0]):
        value.name = value.name or "total"
        model.graph.outputs.append(value)
    outputs = run_model(model, [{"x": x}])[0]
    values = operand.const_value.numpy()
    narrow = product(outputs[given.name], values)
    assert (narrow == exact(outputs[given.name], values)).all() == saturating
    if saturating:
        narrow -= outputs[zero.name].astype(np.int32) * values.sum(0, dtype=np.int32)
        np.testing.assert_array_equal(narrow, outputs[node.outputs[0].name])


def test_the_search_for_a_divisor_knows_the_range() -> None:
    """The scale of a column with two large neighbours is coarser than that of one without."""
    matrix = np.array([[1.0, 1.0], [1.0, -1.0], [0.3, 0.3], [0.3, 0.3]], np.float32)
    error = [
        np.abs(rounded_weight(matrix, saturating=narrow) - matrix).max(axis=0)
        for narrow in (False, True)
    ]
    np.testing.assert_allclose(error[0], error[0][1])
    assert error[1][0] > error[1][1]
    assert error[1][1] == error[0][1]
