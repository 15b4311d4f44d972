"""Nodes that another provider took than the one asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from harness import make_executor
from onnx import parser

from burnish.optimizer import report
from burnish.optimizer.executor import Job
from burnish.runtimes import onnxruntime as ort
from burnish.runtimes import openvino
from burnish.runtimes.onnxruntime import RECORD, Session, fallen

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
branches (bool go, float[2, 2] x) => (float[2, 2] y)
<float[2, 2] w = {1, 2, 3, 4}>
{
  p = MatMul (x, w)
  r = Relu (p)
  y = If (go) <
    then_branch = one () => (float[2, 2] a) { a = MatMul (r, w) },
    else_branch = two () => (float[2, 2] b) { b = Tanh (r) }>
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(MODEL), path := tmp_path / "model.onnx")
    return path


@pytest.fixture
def assigned(model: Path) -> Any:
    """What ONNX Runtime says of a session on the processor."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD, "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    yield session.get_provider_graph_assignment_info()


def test_what_the_processor_took_has_fallen_from_cuda(assigned: Any) -> None:
    """Nodes of subgraphs too."""
    for provider in ("cuda", "tensorrt"):
        expected = [("MatMul", 2), ("If", 1), ("Relu", 1), ("Tanh", 1)]
        assert fallen(assigned, provider) == expected
    assert fallen(assigned, "cpu") == []


def test_a_session_tells_of_itself(
    model: Path, assigned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(model)
    assert session.fallen() == []
    assert openvino.Session(model).fallen() == []
    # As a machine would have it whose processor serves as another device.
    monkeypatch.setitem(ort.PROVIDERS, "cuda", "CPUExecutionProvider")
    other = Session(model, provider="cuda")
    assert other.fallen() == []
    monkeypatch.setitem(ort.PROVIDERS, "cuda", "CUDAExecutionProvider")
    found = other.fallen()
    assert found is not None
    assert found[0] == ("MatMul", 2)
    # Before it could be asked for.
    other._session = object()
    assert other.fallen() is None


def test_it_comes_with_the_job(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "fallen", lambda self: [("MatMul", 2)])
    executor = make_executor(tmp_path / "scratch")
    feed = {"go": np.array(True), "x": np.ones((2, 2), np.float32)}
    folder = executor.folder()
    (done,) = executor.run([Job(model, [executor.store([feed])], folder)])
    assert done == {"error": "", "failed": {}, "fallen": [("MatMul", 2)]}


def test_the_report_has_it() -> None:
    many = [(f"Op{index}", 12 - index) for index in range(10)]
    assert report.fallen_facts(many)["fallen_back"][1] == {"operator": "Op1", "nodes": 11}
    assert report.fallen_facts(None) == {"fallen_back": None}
    assert report.fallen_facts([]) == {"fallen_back": []}
    assert report.elsewhere("cuda", None) == report.elsewhere("cuda", []) == []
    assert report.elsewhere("cuda", [("Shape", 1)]) == ["1 node does not run on cuda: 1 Shape"]
    (text,) = report.elsewhere("cuda", [("Shape", 1), ("MatMulInteger", 9)])
    assert text.endswith("; it has no kernels for MatMulInteger: try --fp16")
    (text,) = report.elsewhere("cuda", many)
    assert text.startswith("75 nodes do not run on cuda: 12 Op0, 11 Op1, ")
    assert text.endswith("5 Op7, 2 more operators")
