"""`--html` and `optimize report`: what is measured for a page, and where the page goes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import onnx_ir as ir
import pytest
from harness import unsupervised
from made_reports import report as made_report
from samples import encoder

from burnish import cli, driver
from burnish import report as reports
from burnish.driver import Request, compilation, profile, whole
from burnish.optimizer import measure, tuner
from burnish.runtimes import profiling

NUMBER = {"type": ["number", "null"]}
TIMES = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
KERNELS = {
    "type": "object",
    "required": ["runs", "ms", "operators", "layers"],
    "additionalProperties": False,
    "properties": {
        "runs": {"type": "integer", "minimum": 1}, "ms": {"type": "number"},
        "operators": TIMES, "layers": TIMES,
    },
}  # fmt: skip
PROFILE = {
    "type": "object",
    "required": ["stages", "kernels", "reasons"],
    "additionalProperties": False,
    "properties": {
        "reasons": {"type": "array", "items": {"type": "string"}},
        "kernels": {
            "type": "object",
            "required": ["before", "after"],
            "properties": {"before": KERNELS, "after": KERNELS},
        },
        "stages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pass", "speedup", "ci95", "drop", "rel_l2"],
                "additionalProperties": False,
                "properties": {
                    "pass": {"type": "integer"}, "speedup": NUMBER, "drop": NUMBER,
                    "rel_l2": NUMBER, "ci95": {"type": ["array", "null"]},
                },
            },
        },
    },
}  # fmt: skip
PICTURE = {
    "type": "object",
    "required": ["queries", "keys", "rows", "padding", "biased"],
    "additionalProperties": False,
    "properties": {
        "queries": {"type": "integer"}, "keys": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "string", "pattern": "^[01]+$"}},
        "padding": {"type": "array", "items": {"type": "string"}}, "biased": {"type": "boolean"},
    },
}  # fmt: skip
LAYERS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["layer", "error", "pass"],
        "additionalProperties": False,
        "properties": {
            "layer": {"type": "string", "pattern": "^([0-9]+|head)$"}, "error": NUMBER,
            "pass": {"type": "string"},
        },
    },
}  # fmt: skip


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", *map(str, arguments)])
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a compilation with a page, and its report; nobody looks at the times."""
    folder = tmp_path_factory.mktemp("html")
    onnx.save(encoder(width=128, vocabulary=512), folder / "model.onnx")
    with pytest.MonkeyPatch.context() as patch, unsupervised():
        patch.setattr(compilation, "TIMING_SECONDS", 0.0)
        patch.setattr(whole, "as_fast", lambda *_: True)
        patch.setattr(tuner, "SECONDS", 0.0)
        patch.setattr(tuner, "BLOCK_SECONDS", 0.001)
        patch.setattr(measure, "LEAST_PAIRS", 2)
        patch.setattr(profile, "BLOCK_SECONDS", 0.001)
        patch.setattr(profile, "KERNEL_SECONDS", 0.0)
        code = command(
            folder / "model.onnx", "-q", "--force", "--int8", "--shape", "batch=2,sequence=8",
            "--json", folder / "report.json", "--html", folder / "report.html",
        )  # fmt: skip
    assert code == 0
    return folder, json.loads((folder / "report.json").read_text())


def test_the_page_is_that_of_the_report(compiled: tuple[Path, dict[str, Any]]) -> None:
    folder, report = compiled
    page = (folder / "report.html").read_text()
    assert page == reports.page(report)
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.int8.onnx", "model.onnx", "report.html", "report.json",
    ]  # fmt: skip
    assert command("report", folder / "report.json", "--html", folder / "again.html") == 0
    assert (folder / "again.html").read_text() == page
    (folder / "again.html").unlink()


def test_every_pass_that_was_kept_is_measured(compiled: tuple[Path, dict[str, Any]]) -> None:
    report = compiled[1]
    jsonschema.validate(report["profile"], PROFILE)
    assert report["profile"]["reasons"] == []
    kept = [index for index, step in enumerate(report["passes"]) if step["status"] == "kept"]
    stages = report["profile"]["stages"]
    assert [stage["pass"] for stage in stages] == kept
    for stage in stages:
        low, high = stage["ci95"]
        assert 0 < low <= stage["speedup"] <= high
    errors = [stage["rel_l2"] for stage in stages]
    lossy = next(n for n, i in enumerate(kept) if report["passes"][i]["name"] == "int8")
    assert max(errors[:lossy]) < 1e-5 < min(errors[lossy:])


def test_kernels_by_operator_and_layer(compiled: tuple[Path, dict[str, Any]]) -> None:
    for kernels in (compiled[1]["profile"]["kernels"][side] for side in ("before", "after")):
        assert {"1", "2", "head"} <= set(kernels["layers"])
        for times in (kernels["layers"], kernels["operators"]):
            assert math.isclose(sum(times.values()), kernels["ms"], rel_tol=0.02, abs_tol=0.01)
    before, after = (
        set(compiled[1]["profile"]["kernels"][side]["operators"]) for side in ("before", "after")
    )
    assert not any("Integer" in name or "Quantize" in name for name in before)
    assert any("Integer" in name or "Quantize" in name for name in after)


def test_sizes_after_each_pass(compiled: tuple[Path, dict[str, Any]]) -> None:
    report = compiled[1]
    start, end = report["memory"]["input_weights_bytes"], report["memory"]["weights_bytes"]
    assert report["passes"][-1]["bytes"] == end < 0.4 * start
    before = start
    for step in report["passes"]:
        if step["status"] != "kept":
            assert step["bytes"] == before
        before = step["bytes"]
    assert report["passes"][-1]["nodes"] == report["output"]["nodes"]


def test_layers_operators_and_masks(compiled: tuple[Path, dict[str, Any]]) -> None:
    report = compiled[1]
    jsonschema.validate(report["layers"], LAYERS)
    assert [row["layer"] for row in report["layers"]][-3:] == ["1", "2", "head"]
    assert {row["pass"] for row in report["layers"]} >= {"int8"}
    for side, node_count in (("before", report["input"]), ("after", report["output"])):
        assert sum(report["operators"][side].values()) == node_count["nodes"]
    assert len(report["attentions"]) == 2
    for facts in report["attentions"]:
        jsonschema.validate(facts["picture"], PICTURE)
        assert facts["picture"]["padding"] == ["attention_mask"]
        assert set("".join(facts["picture"]["rows"])) == {"1"}


def test_no_stage_is_written_where_nothing_is_learnt_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(encoder(), tmp_path / "model.onnx")
    monkeypatch.setattr(profile, "_write", lambda *_: pytest.fail("written"))
    with unsupervised():
        made = driver.optimize(
            Request(str(tmp_path / "model.onnx"), check=False, measure=False, profile=True)
        )
    assert made.report["profile"]["stages"] == []
    assert "nothing was timed" in made.report["profile"]["reasons"]


def test_what_fails_while_measuring_costs_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted")

    onnx.save(encoder(), tmp_path / "model.onnx")
    monkeypatch.setattr(profile, "_stages", broken)
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    options = ("-q", "--no-check", "--no-measure", "--html", page, "--json", data)
    with unsupervised():
        assert command(tmp_path / "model.onnx", *options) == 0
    reasons = json.loads(data.read_text())["profile"]["reasons"]
    assert "the stages were not measured: ZeroDivisionError: planted" in reasons
    assert "kernels are told apart on the processor, where models are timed" in reasons
    assert (tmp_path / "model.opt.onnx").exists()
    assert "ZeroDivisionError: planted" in page.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--html", "{model}"), "would overwrite"),
        (("--html", "missing/report.html"), "folder missing of the report does not exist"),
        (("--html", "{folder}"), "is a folder; try --html FILE"),
        (("--html", "{folder}/r", "--json", "{folder}/r"), "name the same file"),
    ],
)
def test_pages_that_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(encoder(), model)
    named = (option.format(model=model, folder=tmp_path) for option in options)
    assert command(model, *named) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_without_the_extra_nothing_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(encoder(), tmp_path / "model.onnx")
    monkeypatch.setattr(reports, "LIBRARIES", ("no_such_library",))
    assert command(tmp_path / "model.onnx", "--html", tmp_path / "r.html") == 2
    assert "try pip install 'burnish[report]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_drawing_a_report_that_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "report.json"
    data.write_text(json.dumps(made_report()))
    assert command("report", data) == 0
    assert (tmp_path / "report.html").read_text() == reports.page(made_report())
    for content, code, said in (
        ("{", 2, "not JSON"), ("[]", 2, "no report"), ("{}", 2, "no report of schema 1"),
        ('{"schema": 1}', 2, "no report that can be shown"), ("[" * 10**5, 2, "not JSON"),
    ):  # fmt: skip
        data.write_text(content)
        assert command("report", data, "--html", tmp_path / "none.html") == code
        assert said in capsys.readouterr().err
    assert command("report", tmp_path / "absent.json") == 7
    assert command("report", data, "--html", data) == 2
    assert not (tmp_path / "none.html").exists()


def test_kernels_of_the_first_run_and_of_branches_are_left_out() -> None:
    def event(name: str, ts: int, dur: int, operator: str = "Add") -> dict[str, Any]:
        kind = "Session" if name == "model_run" else "Node"
        return {"name": name, "ts": ts, "dur": dur, "cat": kind, "args": {"op_name": operator}}

    events = []
    for start, took in ((0, 70), (100, 10), (200, 30), (300, 20)):
        events.append(event("model_run", start, 99))
        events.append(event("b_kernel_time", start + 5, 5))
        events.append(event("a_kernel_time", start + 10, took))
        events.append(event("if_kernel_time", start + 80, 15, "If"))
        events.append(event("inner_kernel_time", start + 85, 3))
    events.append(event("a_fence_before", 110, 5))
    kernels, count = profiling._kernels(events)
    assert count == 3
    assert [(kernel["name"], kernel["ms"]) for kernel in kernels] == [
        ("b", 0.005), ("a", 0.02), ("if", 0.015),
    ]  # fmt: skip


def test_nodes_without_names_are_taken_in_the_order_of_the_file() -> None:
    message = encoder()
    for node in message.graph.node:
        node.name = ""
    places = profile._Places(ir.from_proto(message))
    products = [node for node in message.graph.node if node.op_type == "MatMul"]
    found = [places.take(f"MatMul_{7 * number}", "MatMul") for number in range(len(products))]
    assert found == ["1"] * (len(products) // 2) + ["2"] * (len(products) // 2)
    assert places.take("MatMul_1000", "MatMul") is None
