"""The main job on real exports: it ends well, keeps the signature, and goes to int8."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from architectures import CASES, Case
from harness import unsupervised

from burnish import cli

EXPECTED = {
    "bert-eager": (2, 5, 2, 0, 13),
    "bert-sdpa": (2, 5, 2, 0, 13),
    "distilbert": (2, 5, 3, 0, 14),
    "llama": (2, 5, 2, 4, 15),
    "llama-tied": (2, 5, 2, 4, 15),
    "llama-cached": (2, 5, 2, 4, 15),
    "gpt2": (2, 5, 2, 0, 9),
    "albert": (2, 5, 2, 0, 13),
    "t5-encoder": (2, 5, 2, 0, 12),
    "t5-decoder": (4, 7, 2, 0, 21),
    "modernbert": (2, 5, 2, 4, 8),
    "vit": (2, 5, 2, 0, 12),
    "swin": (4, 11, 4, 0, 25),
}
"""Attentions, normalizations, activations, rotary embeddings and linear layers, by architecture."""


@pytest.fixture(params=CASES, ids=str)
def exported(request: pytest.FixtureRequest, exports: Callable[[Case], Path]) -> tuple[Case, Path]:
    return request.param, exports(request.param)


def optimize(path: Path, *options: str) -> dict:
    report = path.with_suffix(".json")
    arguments = [str(path), "--no-measure", "--quiet", "--json", str(report), *options]
    with unsupervised(), pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", *arguments])
        cli.main()
    assert not stop.value.code
    return json.loads(report.read_text())


def ports(path: Path) -> list:
    graph = onnx.load(path).graph
    return [value.SerializeToString() for value in (*graph.input, *graph.output)]


def test_simplified(exported: tuple[Case, Path]) -> None:
    case, path = exported
    report = optimize(path)
    assert ports(path) == ports(path.with_name("model.opt.onnx"))
    assert report["fidelity"]["drop"] <= 1e-6
    assert [step["name"] for step in report["passes"] if step["status"] == "rejected"] == []
    # An operator may become the several that are faster, and stay beside them for short inputs.
    assert report["output"]["nodes"] <= 1.2 * report["input"]["nodes"]
    recovered = report["recovered"].values()
    assert tuple(facts["expected"] for facts in recovered) == EXPECTED[case.name]
    assert all(facts["found"] + len(facts["missed"]) == facts["expected"] for facts in recovered)


def test_int8(exported: tuple[Case, Path]) -> None:
    case, path = exported
    # Random weights amplify rounding more than trained ones: the budget is not what is tested.
    report = optimize(path, "--int8", "--max-drop", "0.2")
    output = path.with_name("model.int8.onnx")
    assert ports(path) == ports(output)
    step = next(item for item in report["passes"] if item["name"] == "int8")
    assert step["status"] == "kept", step["reason"]
    assert step["rewrites"] > 0
    assert all(np.isfinite(result).all() for result in run(output, case, rows_taken(path, case)))


def rows_taken(path: Path, case: Case) -> int:
    """Three, unless the export itself holds ONNX Runtime to the one row it was traced with."""
    try:
        run(path, case, 3)
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        return 1
    return 3


def run(path: Path, case: Case, rows: int) -> list:
    """Outputs for sequences that are shorter by one than those exported with."""
    feed = {}
    for name, (value, axes) in case.inputs().items():
        array = np.concatenate([value.numpy()] * 2)[:rows]
        for axis, symbol in axes.items():
            if symbol in ("sequence", "total"):
                array = array.take(range(array.shape[axis] - 1), axis)
        feed[name] = array
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feed)
