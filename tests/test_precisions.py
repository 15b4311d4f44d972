"""`--precision auto`: what is tried, what is chosen, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from harness import make_context, unsupervised
from onnx import TensorProto, helper, numpy_helper

import burnish
from burnish.driver import contenders, precisions
from burnish.driver.contenders import Contenders
from burnish.driver.request import Request
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import UsageError
from burnish.optimizer.model import load
from burnish.optimizer.saving import save
from burnish.passes.lower.half.half_precision import HalfPrecision

NUMBER = {"type": ["number", "null"]}
PRECISIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": [
            "name", "drop", "bytes", "ms", "ratio", "ci95", "chosen", "pareto", "path", "reason"
        ],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"}, "drop": NUMBER, "bytes": NUMBER, "ms": NUMBER,
            "ratio": NUMBER, "ci95": {"type": ["array", "null"]}, "chosen": {"type": "boolean"},
            "reason": {"type": "string"}, "pareto": {"type": "boolean"},
            "path": {"type": ["string", "null"]},
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
    for name in ("fp16", "bf16"):
        assert table[name]["reason"] == "cpu has no faster kernels for it"
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


def test_the_whole_list_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        contenders.Contenders, "choose", lambda *_: Choice("int8", 1.5, measured=False)
    )
    report = compiled(path, points=True)
    table = rows(report)
    # Without times size and fidelity decide: 8 bits in blocks are as large as int8, and closer.
    front = {name for name, row in table.items() if row["pareto"]}
    assert {"fp32", "int4", "int8-weights"} <= front
    assert not table["fp16"]["pareto"]
    feed = {"x": np.ones((2, 256), np.float32)}
    for name in front:
        named = "model.auto.onnx" if name == "int8" else f"model.auto.{name}.onnx"
        assert Path(table[name]["path"]).name == named
        assert ort.InferenceSession(table[name]["path"]).run(None, feed)[0].shape == (2, 256)
        assert abs(Path(table[name]["path"]).stat().st_size - table[name]["bytes"]) < 4000
    assert Path(report["output"]["path"]).name == "model.auto.onnx"
    assert [name for name, row in table.items() if row["path"] is None] == [
        name for name in table if name not in front | {"int8"}
    ]


def test_nothing_else_is_written_unasked(path: Path) -> None:
    report = compiled(path)
    assert [row["path"] for row in report["precisions"] if not row["chosen"]] == [None] * (
        len(report["precisions"]) - 1
    )
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.auto.onnx"}


@pytest.mark.parametrize(
    ("rows_", "front"),
    [
        ([(1.0, 4, 0.1), (2.0, 2, 0.2), (2.0, 4, 0.2)], [True, True, False]),
        ([(None, 4, 0.0), (None, 1, 0.1), (None, 2, 0.1)], [True, True, False]),
        ([(1.0, 4, 0.1), (1.0, 4, 0.1)], [True, True]),
    ],
)
def test_what_dominates(rows_: list[tuple[float | None, int, float]], front: list[bool]) -> None:
    table = [{"ms": ms, "bytes": size, "drop": drop} for ms, size, drop in rows_]
    found = [not any(precisions.dominates(other, row) for other in table) for row in table]
    assert found == front


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"int8": True}, "int8 and --precision auto exclude each other"),
        ({"auto_precision": False, "fp16": True, "bf16": True}, "fp16 and bf16 exclude each other"),
        ({"provider": "auto"}, "--precision auto needs one provider"),
        ({"check": False}, "--precision auto needs the comparisons that --no-check skips"),
    ],
)
def test_what_does_not_go_together(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        burnish.optimize(path, **{"auto_precision": True} | options)
    assert Request(str(path), auto_precision=True).target.name == "model.auto.onnx"


def test_bfloat16_on_a_processor_is_storage(path: Path) -> None:
    with unsupervised():
        result = burnish.optimize(path, bf16=True, measure=False)
    step = next(item for item in result.report["passes"] if item["name"] == "half-precision")
    assert (step["status"], step["options"]["dtype"]) == ("kept", "bfloat16")
    assert result.path == path.with_name("model.bf16.onnx")
    assert result.path.stat().st_size < 0.52 * path.stat().st_size
    facts = result.report["fidelity"]["outputs"]["y"]
    assert 1e-3 < facts["rel_l2"] < 1e-2


def test_what_computes_in_bfloat16_is_compared_where_nothing_does(path: Path) -> None:
    model = load(path).model
    HalfPrecision(dtype="bfloat16").apply(model, make_context(provider="cuda"))
    other = path.with_name("other.onnx")
    save(model, other, external=False)
    with unsupervised():
        facts = burnish.driver.compare(Request(str(path)), str(other))
    assert any("computes in bfloat16, which is emulated" in item for item in facts["warnings"])
    assert 1e-3 < facts["fidelity"]["outputs"]["y"]["rel_l2"] < 2e-2
