"""`--precision auto`: what is tried, what is chosen, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from harness import unsupervised
from onnx import TensorProto, helper, numpy_helper

import burnish
from burnish.driver import contenders
from burnish.driver.contenders import Contenders
from burnish.driver.request import Request
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import UsageError

NUMBER = {"type": ["number", "null"]}
PRECISIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "drop", "bytes", "ms", "ratio", "ci95", "chosen", "reason"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"}, "drop": NUMBER, "bytes": NUMBER, "ms": NUMBER,
            "ratio": NUMBER, "ci95": {"type": ["array", "null"]}, "chosen": {"type": "boolean"},
            "reason": {"type": "string"},
        },
    },
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two products of 256 x 256 with an activation between them."""
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal((256, 256)) / 16 for name in ("v", "w")}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["a"]),
            helper.make_node("Tanh", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 256])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(message, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def compiled(path: Path, **options: Any) -> dict[str, Any]:
    settings = {"auto_precision": True, "measure": False, "max_drop": 0.05} | options
    with unsupervised():
        report = burnish.optimize(path, **settings).report
    jsonschema.validate(report["precisions"], PRECISIONS)
    return json.loads(json.dumps(report))


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["precisions"]}


@pytest.mark.parametrize("winner", ["fp32", "int8", "int4", "int8_weights"])
def test_the_fastest_is_written(path: Path, monkeypatch: pytest.MonkeyPatch, winner: str) -> None:
    seen: list[str] = []

    def choose(self: Contenders, standing: dict[str, Any], emit: str) -> Choice:
        seen.extend(standing)
        return Choice(winner, 1.5, measured=False)

    monkeypatch.setattr(contenders.Contenders, "choose", choose)
    report = compiled(path)
    assert seen == ["fp32", "int8", "int4", "int8_weights"]
    named = winner.replace("_", "-")
    table = rows(report)
    assert [name for name, row in table.items() if row["chosen"]] == [named]
    assert report["output"]["path"].endswith("model.auto.onnx")
    assert table["fp32"]["drop"] < 1e-6 < table["int8-weights"]["drop"] < table["int4"]["drop"]
    assert table["int4"]["bytes"] < table["int8-weights"]["bytes"] < table["fp32"]["bytes"]
    assert table["fp16"]["reason"] == "cpu has no faster kernels for it"
    # What is written is what the table says.
    digest = len(Path(report["output"]["path"]).read_bytes())
    assert abs(digest - table[named]["bytes"]) < 4000
    assert report["fidelity"]["drop"] == table[named]["drop"]


def test_what_exceeds_the_budget_does_not_stand(path: Path) -> None:
    table = rows(compiled(path, max_drop=1e-9))
    assert table["fp32"]["chosen"]
    for name in ("int8", "int4", "int8-weights"):
        assert table[name]["drop"] is None
        assert "where the budget is 1e-09, and" in table[name]["reason"]


def test_without_measuring_float32_is_taken(path: Path) -> None:
    report = compiled(path)
    assert rows(report)["fp32"]["chosen"]
    assert "precision fp32 was taken untimed: nothing was measured" in report["warnings"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"int8": True}, "int8 and --precision auto exclude each other"),
        ({"provider": "auto"}, "--precision auto needs one provider"),
        ({"check": False}, "--precision auto needs the comparisons that --no-check skips"),
    ],
)
def test_what_does_not_go_together(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        burnish.optimize(path, auto_precision=True, **options)
    assert Request(str(path), auto_precision=True).target.name == "model.auto.onnx"
