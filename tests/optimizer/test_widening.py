"""Transforms in float64, under the names that they had."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import run_model
from samples import parse

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.widening import widened

TEXT = """
    <ir_version: 10, opset_import: ["" : 17]>
    graph (float[2, 600, 1] x, float[2, 900] signal) => (float[2, 600, 2] y, float[2, f, 301, 2] z)
    <int64 step = {300}, int64 n = {600}, float[1] half = {0.5}>
    {
      y = DFT <axis = 1> (x)
      frames = STFT <onesided = 1> (signal, step, , n)
      z = Mul (frames, half)
    }
"""


def test_widened_transforms_are_exact_and_keep_their_names() -> None:
    model = parse(TEXT)
    wide = widened(model)
    onnx.checker.check_model(ir.to_proto(wide), full_check=True)
    random = np.random.default_rng(0)
    feed = {
        "x": random.standard_normal((2, 600, 1), np.float32),
        "signal": random.standard_normal((2, 900), np.float32),
    }
    expected = np.fft.fft(feed["x"][..., 0].astype(np.float64))
    exact = np.stack([expected.real, expected.imag], -1)
    [before], [after] = run_model(model, [feed]), run_model(wide, [feed])
    assert relative_l2(exact, before["y"]) > 3e-5
    assert relative_l2(exact, after["y"]) < 1e-7
    assert 1e-5 < relative_l2(after["z"], before["z"]) < 1e-4
    names = {value.name for node in wide.graph for value in node.outputs}
    assert {"y", "frames", "z"} <= names


@pytest.mark.parametrize("kind", ["double", "float"])
def test_others_stay(kind: str) -> None:
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        graph ({kind}[2, 6, 1] x) => ({kind}[2, 6, c] y) {{ y = BODY (x) }}
    """
    for body in ["Neg"] + ["DFT"] * (kind == "double"):
        model = parse(text.replace("BODY", body))
        wide = widened(model)
        assert [node.op_type for node in wide.graph] == [body]
