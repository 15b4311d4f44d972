"""A search over precision, low rank and pruning as a user asks for it, with made-up times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from samples import encoder
from test_cli import command, command_here, report_of, step

from burnish.driver import search, workbench
from burnish.optimizer.measure import Entrant, Timing

NUMBER = {"type": ["number", "null"]}
POINTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": [
            "name", "precision", "low_rank", "prune", "options", "drop", "bytes", "ms", "ratio",
            "ci95", "reason", "known", "chosen", "pareto", "path",
        ],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"}, "precision": {"type": "string"},
            "low_rank": {"type": "boolean"}, "prune": {"type": "number"},
            "options": {"type": "string"}, "drop": NUMBER, "bytes": NUMBER, "ms": NUMBER,
            "ratio": NUMBER, "ci95": {"type": ["array", "null"]}, "reason": {"type": "string"},
            "known": {"type": "boolean"}, "chosen": {"type": "boolean"},
            "pareto": {"type": "boolean"}, "path": {"type": ["string", "null"]},
        },
    },
}  # fmt: skip
SEARCH = {
    "type": "object",
    "required": ["speedup", "max_drop", "met", "reached", "chosen", "bound", "tried", "known"],
    "additionalProperties": False,
    "properties": {
        "speedup": NUMBER, "max_drop": {"type": "number"}, "met": {"type": ["boolean", "null"]},
        "reached": {"type": "number"}, "chosen": {"type": "string"}, "bound": {"type": "string"},
        "tried": {"type": "integer"}, "known": {"type": "integer"},
    },
}  # fmt: skip


class Contest:
    """Takes a run to be as long as a file, in microseconds for each kilobyte."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def admit(self, name: str, entrant: Entrant) -> None:
        pass

    def compare(self, entrants: Mapping[str, Entrant], *_: object) -> dict[str, Timing]:
        sizes = {name: item.path.stat().st_size / 1e6 for name, item in entrants.items()}
        first, *others = sizes
        base = sizes[first]
        return {
            name: Timing(base, sizes[name], *[base / sizes[name]] * 3, pairs=7) for name in others
        }


@pytest.fixture(autouse=True)
def made_up_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "Contest", Contest)
    monkeypatch.setattr(search, "PRECISIONS", ("int8",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(layers=1, width=128, heads=4, vocabulary=64), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "feeds"
    folder.mkdir()
    for index in range(8):
        ids = random.integers(0, 64, (4, int(random.integers(8, 24))))
        feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
        np.savez(folder / f"{index:02}.npz", **feed)
    return folder


def searched(model: Path, data: Path, *options: object, code: int = 0) -> dict[str, Any]:
    """The report of a search, whose record lies beside the model."""
    record = model.with_name("tuning.json")
    report = report_of(model, "--data", data, "--tuning", record, *options, code=code)
    jsonschema.validate(report["points"], POINTS)
    jsonschema.validate(report["search"], SEARCH)
    return report


def chosen(report: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in report["points"] if row["chosen"])
    return row


def test_a_speedup_is_reached_by_pruning_on_top_of_int8(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = ("--speedup", 4, "--max-drop", 0.9)
    # The search is interrupted in its third try.
    tries: list[str] = []
    compiled = search._Search._compiled

    def interrupted(self: Any, point: Any) -> Any:
        tries.append(point.name)
        if len(tries) == 3:
            raise KeyboardInterrupt
        return compiled(self, point)

    with monkeypatch.context() as patch:
        patch.setattr(search._Search, "_compiled", interrupted)
        assert command_here(model, "-q", "--data", data, "--tuning",
                            model.with_name("tuning.json"), *goals) == 130  # fmt: skip
    first = searched(model, data, *goals)
    assert first["search"]["known"] == 2
    row = chosen(first)
    assert (row["precision"], first["search"]["met"]) == ("int8", True)
    assert 0.0 < row["prune"] < 0.95
    less = [
        item["ratio"]
        for item in first["points"]
        if item["low_rank"] == row["low_rank"] and item["precision"] == "int8"
        if item["ratio"] and item["prune"] < row["prune"]
    ]
    assert row["ratio"] >= 4 > max(less)
    assert step(first, "prune")["status"] == step(first, "int8")["status"] == "kept"
    artifact = model.with_name("model.opt.onnx")
    made = artifact.read_bytes()
    # Once more: all but the artifact is known.
    monkeypatch.setattr(search._Search, "_tried", None)
    again = searched(model, data, *goals)
    assert again["search"]["known"] == again["search"]["tried"] == first["search"]["tried"]
    assert artifact.read_bytes() == made
    for report in (first, again):
        for item in report["points"]:
            del item["known"]
    assert again["points"] == first["points"]
    # A goal that less reaches, from the same record; the list is written as well.
    nearer = searched(model, data, "--speedup", 1.5, "--max-drop", 0.9, "--points")
    assert chosen(nearer)["name"] == "int8"
    for item in nearer["points"]:
        assert (item["path"] is not None) == item["pareto"]
        if item["path"]:
            ort.InferenceSession(item["path"])


def test_the_goal_that_binds_is_named(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = searched(model, data, "--speedup", 50, "--max-drop", 0.02, code=1)
    said = capsys.readouterr().err
    assert "--speedup 50 is not met: " in said
    assert "is the most within --max-drop 0.02" in said
    assert "prune-" in report["search"]["bound"]
    assert "more than 0.01" in report["search"]["bound"]
    fastest = max(item["ratio"] for item in report["points"] if item["ratio"])
    assert chosen(report)["ratio"] == report["search"]["reached"] == fastest
    assert report["fidelity"]["drop"] <= 0.02


def test_what_is_fast_enough_already_is_not_compressed(model: Path, data: Path) -> None:
    report = searched(model, data, "--speedup", 0.9)
    assert [item["name"] for item in report["points"]] == ["fp32"]
    assert report["search"] == {
        "speedup": 0.9, "max_drop": 0.01, "met": True, "reached": report["points"][0]["ratio"],
        "chosen": "fp32", "bound": "", "tried": 1, "known": 0,
    }  # fmt: skip


def test_the_fastest_within_the_budget_of_a_model_without_sites(tmp_path: Path, data: Path) -> None:
    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        flat (float[batch, 128] x) => (float[batch, 128] y)
        <float[128, 128] w>
        { y = MatMul (x, w) }
    """)
    random = np.random.default_rng(0)
    weight = random.standard_normal((128, 128)).astype(np.float32) / 12
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model = tmp_path / "flat.onnx"
    onnx.save(graph, model)
    rows = random.standard_normal((16, 4, 128)).astype(np.float32)
    folder = tmp_path / "rows"
    folder.mkdir()
    for index, row in enumerate(rows):
        np.savez(folder / f"{index}.npz", x=row)
    report = searched(model, folder, "--prune", "auto", "--precision", "auto", "--max-drop", 0.1)
    assert chosen(report)["name"] == "int8"
    assert report["search"]["met"] is None
    assert report["search"]["bound"].startswith("nothing can be pruned: it has no heads")
    assert sum(bool(item["prune"]) for item in report["points"]) == 1
    assert Path(report["output"]["path"]).name == "flat.auto.onnx"


def test_the_record_holds_what_came_of_each_point(model: Path, data: Path) -> None:
    searched(model, data, "--speedup", 2, "--max-drop", 0.9)
    path = model.with_name("tuning.json")
    record = json.loads(path.read_text())
    (key,) = (key for key in record if key.endswith(": int8"))
    assert record[key]["winner"] == "stands"
    assert record[key]["facts"]["drop"] > 0
    # Facts that are none are found anew; other data is another search.
    record[key]["facts"] = {"drop": "much"}
    path.write_text(json.dumps(record))
    assert searched(model, data, "--speedup", 2, "--max-drop", 0.9)["search"]["known"] == 1
    (data / "07.npz").unlink()
    assert searched(model, data, "--speedup", 2, "--max-drop", 0.9)["search"]["known"] == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--points"], "--points are those of --precision auto"),
        (["--prune", "auto", "--precision", "auto", "--no-measure"], "needs the times"),
        (["--prune", "auto", "--precision", "auto", "--low-rank"], "tries low rank by itself"),
        (["--speedup", "2", "--points", "--int8"], "--points are those of --precision auto"),
    ],
)
def test_what_does_not_go_together(
    model: Path, data: Path, options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(model, "--data", data, *options, "-q") == 2
    assert line in capsys.readouterr().err
