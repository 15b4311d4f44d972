"""A zoo around a main job that takes no time: rows, what is known, places, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zoos
from zoos import Compiler, artifacts, by_name, convert, tiny

from burnish.driver import zoo
from burnish.driver.zoo import survey
from burnish.driver.zoo.page import page
from burnish.optimizer.errors import (
    BurnishError,
    InvalidModel,
    ResourceLimit,
    StorageError,
    UsageError,
)

TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "array", "items": TEXT}
ROW = {
    "name": TEXT,
    "path": TEXT,
    "options": {"type": "object"},
    "key": TEXT,
    "need_bytes": COUNT,
    "status": {"enum": ["converted", "unchanged", "missed", "failed"]},
    "exit_code": {"enum": [0, 1, 2, 3, 4, 5, 7]},
    "reason": TEXT,
    "input_bytes": {"type": ["integer", "null"]},
    "output_bytes": {"type": ["integer", "null"]},
    "size_ratio": NUMBER,
    "speedup": NUMBER,
    "ci95": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    "drop": NUMBER,
    "metric": {"type": ["string", "null"]},
    "feeds": {"type": ["string", "null"]},
    "attentions": {
        "type": ["object", "null"],
        "properties": {"expected": COUNT, "found": COUNT},
        "additionalProperties": False,
    },
    "passes": TEXTS,
    "warnings": TEXTS,
    "seconds": {"type": "number"},
    "peak_bytes": {"type": ["integer", "null"]},
    "output": {"type": ["string", "null"]},
    "files": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^.{64}$"}},
    "report": {"type": ["string", "null"]},
}
FOUND = {
    "name": TEXT,
    "what": {"enum": ["status", "size", "speed", "fidelity"]},
    "before": {},
    "after": {},
    "text": TEXT,
}


def exactly(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SINCE = exactly(
    {"path": TEXT, "regressions": {"type": "array", "items": exactly(FOUND)}, "notes": TEXTS}
)
SCHEMA = exactly(
    {
        "schema": {"const": 1},
        "burnish": TEXT,
        "source": TEXT,
        "output": TEXT,
        "options": {"type": "object"},
        "target": exactly({"device": TEXT, "places": COUNT}),
        "budget_bytes": COUNT,
        "members": {"type": "array", "items": exactly(ROW)},
        "summary": exactly(dict.fromkeys(("converted", "unchanged", "missed", "failed"), COUNT)),
        "known": COUNT,
        "since": {"anyOf": [{"type": "null"}, SINCE]},
        "exit_code": {"enum": [0, 1]},
    }
)


@pytest.fixture(autouse=True)
def looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are looked at in this process, where an interpreter is there already."""

    def call(target: str, order: Any, limits: Any, note: Any) -> Any:
        return survey.survey(order, note)

    monkeypatch.setattr(survey.sandbox, "call", call)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        tiny(tmp_path / "models" / f"{name}.onnx", name)
    return tmp_path / "models"


def test_the_report_is_of_its_schema(models: Path, tmp_path: Path) -> None:
    compiler = Compiler()
    compiler.fails["b.onnx"] = InvalidModel("no good", place="node /x", hint="another")
    facts = convert(models, tmp_path / "out", compiler)
    written = json.loads((tmp_path / "out" / "zoo.json").read_text())
    assert written == json.loads(json.dumps(facts))
    jsonschema.validate(written, SCHEMA)
    assert written["summary"] == {"converted": 2, "unchanged": 0, "missed": 0, "failed": 1}
    row = by_name(facts)["b.onnx"]
    assert (row["status"], row["exit_code"]) == ("failed", 3)
    assert row["reason"] == "no good (node /x); try another"
    assert facts["exit_code"] == 1
    again = convert(models, tmp_path / "out", compiler, since=str(tmp_path / "out" / "zoo.json"))
    jsonschema.validate(json.loads(json.dumps(again)), SCHEMA)
    assert again["since"]["regressions"] == again["since"]["notes"] == []


def test_what_is_done_is_not_done_again(models: Path, tmp_path: Path) -> None:
    compiler, output = Compiler(), tmp_path / "out"
    first = convert(models, output, compiler)
    assert first["known"] == 0
    assert first["exit_code"] == 0
    made = artifacts(output)
    assert len(compiler.asked) == 3
    second = convert(models, output, compiler)
    assert second["known"] == 3
    assert len(compiler.asked) == 3
    assert second["members"] == first["members"]
    assert artifacts(output) == made


@pytest.mark.parametrize("change", ["input", "option", "artifact", "data file", "note"])
def test_what_has_changed_is_done_again(models: Path, tmp_path: Path, change: str) -> None:
    compiler, output = Compiler(), tmp_path / "out"
    convert(models, output, compiler)
    made, options = artifacts(output), {}
    if change == "input":
        tiny(models / "b.onnx", "other")
    elif change == "option":
        options = {"max-drop": 0.02}
    elif change == "artifact":
        (output / "b.opt.onnx").write_bytes(b"torn")
    elif change == "data file":
        next(output.glob("b.opt.onnx-*.data")).unlink()
    else:
        for note in (output / ".zoo" / "done").rglob("*.json"):
            note.write_text(note.read_text()[:40])
    convert(models, output, compiler, options=options)
    assert len(compiler.asked) - 3 == (3 if change in ("option", "note") else 1)
    assert (artifacts(output) == made) == (change != "input")


def test_the_same_work_under_another_name_is_copied(models: Path, tmp_path: Path) -> None:
    compiler, output = Compiler(), tmp_path / "out"
    (models / "z.onnx").write_bytes((models / "a.onnx").read_bytes())
    facts = convert(models, output, compiler)
    assert len(compiler.asked) == 3
    assert (output / "z.opt.onnx").read_bytes() == (output / "a.opt.onnx").read_bytes()
    assert by_name(facts)["z.onnx"]["output"] == "z.opt.onnx"
    (models / "a.onnx").rename(models / "renamed.onnx")
    convert(models, output, compiler)
    assert len(compiler.asked) == 3
    assert (output / "renamed.opt.onnx").exists()


def test_a_checkpoint_becomes_a_folder(models: Path, tmp_path: Path) -> None:
    folder = models / "inner" / "bert"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    header = b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (folder / "model.safetensors").write_bytes(content)
    compiler, output = Compiler(), tmp_path / "out"
    row = by_name(convert(models, output, compiler))["inner/bert"]
    assert row["status"] == "converted", row["reason"]
    assert row["output"] == "inner/bert.opt"
    assert set(row["files"]) == {"inner/bert.opt/manifest.json", "inner/bert.opt/model.onnx"}
    assert row["peak_bytes"] == 7
    assert (output / "inner" / "bert.opt.report.json").exists()
    again = by_name(convert(models, output, compiler))
    assert again["inner/bert"] == row
    assert row["need_bytes"] > again["a.onnx"]["need_bytes"]
    assert len(compiler.asked) == 4
    (output / "inner" / "bert.opt" / "model.onnx").write_bytes(b"")
    convert(models, output, compiler)
    assert len(compiler.asked) == 5
    assert (output / "inner" / "bert.opt" / "model.onnx").read_bytes() == content


@pytest.mark.parametrize(
    ("error", "code", "lasting"),
    [
        (InvalidModel("no"), 3, True),
        (BurnishError("internal error: no"), 3, False),
        (ResourceLimit("no"), 5, False),
        (StorageError("no"), 7, False),
        (UsageError("no"), 2, False),
        (ZeroDivisionError("no"), 3, False),
    ],
)
def test_a_failure_is_a_row(
    models: Path, tmp_path: Path, error: Exception, code: int, lasting: bool
) -> None:
    compiler = Compiler()
    compiler.fails["a.onnx"] = error
    facts = convert(models, tmp_path / "out", compiler)
    assert by_name(facts)["a.onnx"]["exit_code"] == code
    assert facts["summary"]["converted"] == 2
    assert convert(models, tmp_path / "out", compiler)["known"] == (3 if lasting else 2)
    assert len(compiler.asked) == (3 if lasting else 4)


def test_one_that_is_too_big_is_not_begun(models: Path, tmp_path: Path) -> None:
    zoos.huge(models / "huge.onnx")
    compiler = Compiler()
    row = by_name(convert(models, tmp_path / "out", compiler))["huge.onnx"]
    assert row["exit_code"] == 5
    assert "needs about 2.3 GB, and the budget is 2.2 GB" in row["reason"]
    assert len(compiler.asked) == 3
    cheap = {"no-check": True, "no-measure": True}
    row = by_name(convert(models, tmp_path / "out", compiler, options=cheap))["huge.onnx"]
    assert row["status"] == "converted", row["reason"]
    assert row["need_bytes"] < zoos.BUDGET


def test_each_job_has_its_own_limit_whatever_the_budget(models: Path, tmp_path: Path) -> None:
    limits = []
    for budget in (2_000_000_000, 9_000_000_000):
        compiler = Compiler()
        convert(models, tmp_path / str(budget), compiler, memory_limit=budget)
        limits.append([request.memory_limit for request in compiler.asked])
    assert limits[0] == limits[1]
    assert all(limits[0])


def test_a_model_that_changes_meanwhile(models: Path, tmp_path: Path) -> None:
    compiler = Compiler()
    inner = compiler.__call__

    def changing(request: Any, say: Any) -> Any:
        tiny(models / "b.onnx", "changed")
        return inner(request, say)

    order = zoo.Order(str(models), str(tmp_path / "out"), memory_limit=zoos.BUDGET, places=1)
    facts = zoo.convert(order, changing, lambda *rest: "", lambda event: None)
    assert "was changed" in by_name(facts)["b.onnx"]["reason"]


def test_a_missed_condition_is_told_and_written(models: Path, tmp_path: Path) -> None:
    order = zoo.Order(str(models), str(tmp_path / "out"), memory_limit=zoos.BUDGET)
    facts = zoo.convert(order, Compiler(), lambda *rest: "too slow", lambda event: None)
    assert facts["summary"]["missed"] == 3
    assert facts["exit_code"] == 1
    assert by_name(facts)["a.onnx"]["reason"] == "too slow"
    assert (tmp_path / "out" / "a.opt.onnx").exists()


def test_events_say_where_it_is(models: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    order = zoo.Order(str(models), str(tmp_path / "out"), memory_limit=zoos.BUDGET)
    zoo.convert(order, Compiler(), lambda *rest: "", events.append)
    kinds = [event["event"] for event in events]
    assert kinds[:4] == ["looking", "looking", "looking", "begun"]
    assert kinds.count("started") == kinds.count("finished") == kinds.count("stage") == 3


def test_nothing_is_left_but_results_and_notes(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    convert(models, output, Compiler())
    hidden = {path.name for path in (output / ".zoo").iterdir()}
    assert hidden == {"lock", "done", "work"}
    assert not any((output / ".zoo" / "work").iterdir())
    assert not [path for path in output.iterdir() if path.name.startswith(".burnish")]


def test_results_do_not_lie_among_the_models(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="among the models"):
        convert(models, models, Compiler())
    output = models / "out"
    convert(models, output, Compiler())
    assert len(convert(models, output, Compiler())["members"]) == 3


def test_one_place_for_two_members(models: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "a.onnx")
    listed = models / "list.txt"
    listed.write_text("a.onnx\n../a.onnx\n")
    with pytest.raises(UsageError, match=r"would both become a\.opt\.onnx"):
        convert(listed, tmp_path / "out", Compiler())


def test_the_page_holds_no_markup_but_its_own() -> None:
    hostile = "<script>alert('x')</script>\x1b[0m\udcff"
    row = dict.fromkeys(ROW) | {
        "name": hostile, "options": {"data": hostile}, "status": "failed", "reason": hostile,
        "warnings": [hostile], "report": hostile, "output_bytes": None,
    }  # fmt: skip
    found = {"name": hostile, "what": "size", "text": hostile}
    facts = {
        "source": hostile, "summary": {"failed": 1}, "members": [row], "burnish": "1",
        "target": {"device": hostile},
        "since": {"path": hostile, "regressions": [found], "notes": [hostile]},
    }  # fmt: skip
    text = page(facts)
    text.encode()
    assert "<script" not in text
    assert "\x1b" not in text
    assert "http" not in text
    assert text.count("&lt;script&gt;") >= 7


def test_a_model_that_ends_the_child_has_its_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, calls = survey.sandbox.call, []

    def call(target: str, order: Any, limits: Any, note: Any) -> Any:
        calls.append(order["models"])
        if len(calls) == 1:
            here(target, order | {"models": order["models"][:1]}, limits, note)
            raise InvalidModel("native code died while working on it: SIGSEGV")
        return here(target, order, limits, note)

    monkeypatch.setattr(survey.sandbox, "call", call)
    rows = by_name(convert(models, tmp_path / "out", Compiler()))
    assert [row["status"] for row in rows.values()] == ["converted", "failed", "converted"]
    assert "SIGSEGV" in rows["b.onnx"]["reason"]
    assert [len(names) for names in calls] == [3, 1]
