"""The gate: what it holds to a baseline, what it says, and how it ends."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import typer
import yaml
from harness import unsupervised
from onnx import numpy_helper
from samples import encoder

from burnish import cli
from burnish.driver import checking, verdicts
from burnish.driver.verdicts import FAILED, PASSED, UNJUDGED, Bounds
from burnish.optimizer import rounds
from burnish.rendering.check import junit, markdown

ROOT = Path(__file__).parents[1]


def command(*arguments: object) -> int:
    with unsupervised(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["optimize", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """What is timed is timed for real, but no longer than it takes to see the numbers go round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "SECONDS", 0.0)
        patch.setattr(rounds, "BLOCK_SECONDS", 0.002)
        patch.setattr(rounds, "PAIRS", 2)
        patch.setattr(rounds, "LEAST_ROUNDS", 1)
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, hasty: None) -> Path:
    """A model, a smaller artifact of it, and the baseline of the two."""
    path = tmp_path_factory.mktemp("gate")
    onnx.save(encoder(layers=1, width=32), path / "model.onnx")
    onnx.save(encoder(layers=1, width=32), path / "given.onnx")
    options = ("--optimized", path / "given.onnx", "--shape", "batch=1,sequence=8", "-q")
    assert check(path, "--update", *options) == 0
    return path


def check(folder: Path, *options: object) -> int:
    return command("check", folder / "model.onnx", "--against", folder / "base.json", *options)


def baseline(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "base.json").read_text())


def changed(folder: Path, name: str, change: Any) -> Path:
    """The artifact with its weights changed."""
    model = onnx.load(folder / "given.onnx")
    change(model)
    onnx.save(model, folder / name)
    return folder / name


def larger(model: onnx.ModelProto) -> None:
    extra = numpy_helper.from_array(np.zeros(20_000, np.float32), "unused")
    model.graph.initializer.append(extra)


def worse(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        if weight.name.startswith("logits") or weight.name.endswith("gamma"):
            array = numpy_helper.to_array(weight)
            random = np.random.default_rng(0).standard_normal(array.shape)
            other = (array + random).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(other, weight.name))


def test_the_baseline_is_a_report(folder: Path) -> None:
    report = baseline(folder)
    assert {"input", "output", "target", "latency", "fidelity", "options"} <= set(report)
    assert {"rows", "passed", "against", "failed"}.isdisjoint(report)
    assert report["options"] == {"shape": {"batch": 1, "sequence": 8}}
    assert report["latency"]["inputs"]["input_ids"] == [1, 8]
    assert report["latency"]["rounds"] == 1


def test_what_is_as_it_was_passes_and_everything_is_said_everywhere(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Also under variables by which CI systems ask for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    files = ("--json", tmp_path / "check.json", "--junit", tmp_path / "check.xml")
    given = ("--optimized", folder / "given.onnx", "--max-latency-ratio", 1000)
    assert check(folder, *given, *files) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert f"{folder / 'model.onnx'} against {folder / 'base.json'}: passed\n" in out
    assert re.search(r"^latency, share of the input's .* 1000 times +passed$", out, re.M)
    facts = json.loads((tmp_path / "check.json").read_text())
    assert facts["passed"] is True
    assert [row["name"] for row in facts["rows"]] == ["latency", "size", "loss"]
    assert {row["status"] for row in facts["rows"]} == {PASSED}
    low, high = facts["rows"][0]["interval"]
    assert low <= facts["rows"][0]["change"] <= high
    root = ElementTree.parse(tmp_path / "check.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "0")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n###")
    assert summary.count("\n| ") == 4


@pytest.mark.parametrize(
    ("change", "row"), [(larger, "size: "), (worse, "loss: ")], ids=["larger", "worse"]
)
def test_what_is_worse_fails_with_its_row(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, change: Any, row: str
) -> None:
    path = changed(folder, f"{change.__name__}.onnx", change)
    options = ("--optimized", path, "--no-measure", "--junit", tmp_path / "x.xml")
    assert check(folder, *options) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and f"model.onnx: {row}" in lines[0]
    assert re.search(rf"^{row[:4]} .*FAILED$", out, re.M)
    assert "latency: nothing was timed" in out
    (failure,) = ElementTree.parse(tmp_path / "x.xml").iter("failure")
    assert "allowed" in str(failure.get("message"))


@pytest.mark.parametrize(("true", "code"), [(1.0, 0), (1.2, 1)])
def test_a_planted_slowdown_fails_and_noise_does_not(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    true: float,
    code: int,
) -> None:
    """The times are made here: the ratio of the baseline, with noise of a busy machine on it."""
    report = baseline(folder)
    report["latency"] |= {"speedup": 2.0, "ci95": [1.98, 2.02]}
    (folder / "base.json").rename(folder / "kept.json")
    (folder / "base.json").write_text(json.dumps(report))
    random = np.random.default_rng(1)

    def measured(contest: Any, entrants: Any, settled: Any, seconds: float) -> Any:
        taken: list[Any] = []
        while len(taken) < 4 or not settled(taken):
            noise = np.exp(random.normal(0, 0.1, (8, 2)))
            taken.append([(0.02 * a, 0.01 * true * b) for a, b in noise])
        return taken

    monkeypatch.setattr(rounds, "measured", measured)
    assert check(folder, "--optimized", folder / "given.onnx") == code
    err = capsys.readouterr().err
    assert ("error: " in err) == bool(code)
    if code:
        assert re.search(r"model.onnx: latency: 1\.\d+ times the baseline's \(1\.1", err)
    (folder / "kept.json").replace(folder / "base.json")


def test_it_compiles_as_for_the_baseline(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe for the first, its options for those after it; the artifact is kept by -o."""
    model, against = folder / "model.onnx", tmp_path / "b.json"
    before = sorted(folder.iterdir())
    first = ("check", model, "--against", against, "--no-measure")
    assert command(*first, "--update", "--recipe", "max-accuracy", "-q") == 0
    assert json.loads(against.read_text())["options"] == {"max-drop": 0.0001, "no-measure": True}
    kept = tmp_path / "kept.onnx"
    assert command("check", model, "--against", against, "-o", kept, "--json", tmp_path / "c") == 0
    facts = json.loads((tmp_path / "c").read_text())
    assert facts["options"]["max-drop"] == 0.0001
    assert kept.stat().st_size == facts["output"]["bytes"]
    assert [row["status"] for row in facts["rows"]] == [UNJUDGED, PASSED, PASSED]
    assert sorted(folder.iterdir()) == before


REPORT = {
    "schema": 1,
    "input": {"bytes": 100, "sha256": "a"},
    "output": {"bytes": 50},
    "target": {"provider": "cpu"},
    "latency": {"speedup": 2.0, "ci95": [1.9, 2.1]},
    "fidelity": {"metric": "m", "feeds": "f", "drop": 0.01, "groups": {"de": 0.01, "fr": 0.0}},
    "passes": [],
    "options": {},
}

SLOWER = {"value": 1.2, "low": 1.15, "high": 1.3}


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"schema": 2}, 2, "it is no report: schema 1 is not in it"),
        ({"output": {"bytes": 0}}, 2, "the size of the output is not in it"),
        ({"latency": {"speedup": 1.0}}, 2, "its latency has no speedup with an interval"),
        ({"fidelity": {"drop": None, "groups": {}}}, 2, "its fidelity has no loss"),
        ({"latency": None, "passes": [{"status": "kept"}]}, 2, "it has no times"),
        ({"parts": {}}, 2, "a report of several graphs"),
        ({"options": {"int9": True}}, 2, "there is no option int9; try int8"),
        ({"fidelity": REPORT["fidelity"] | {"feeds": "on a.txt"}}, 2, "its loss is on a.txt, this"),
        ({"target": {"provider": "cuda"}}, 2, "it is for provider cuda, this"),
        ("[", 2, "it is no JSON"),
        ("[]", 2, "schema 1 is not in it"),
        (None, 7, "it cannot be read: no such file or directory; try --update, which writes it"),
    ],
)
def test_baselines_that_are_none(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    code: int,
    told: str,
) -> None:
    path = tmp_path / "b.json"
    if change is not None:
        path.write_text(change if isinstance(change, str) else json.dumps(REPORT | change))
    assert command("check", folder / "model.onnx", "--against", path) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ") and told in line


def test_an_artifact_that_was_given_is_not_compiled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder) == 2
    assert "it is of an artifact that was given; try --optimized" in capsys.readouterr().err


def facts(**changes: Any) -> dict[str, Any]:
    """A run as good as `REPORT`."""
    now = copy.deepcopy(REPORT)
    now["latency"] |= {"change": {"value": 1.0, "low": 0.9, "high": 1.05}}  # type: ignore[operator]
    return now | changes


def loss(**changes: Any) -> dict[str, Any]:
    return {"fidelity": REPORT["fidelity"] | changes}  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"output": {"bytes": 52}}, []),
        ({"output": {"bytes": 53}}, ["size"]),
        (loss(drop=0.02), []),
        (loss(drop=0.0301), ["loss"]),
        (loss(drop=float("nan")), ["loss"]),
        (loss(drop=None), ["loss"]),
        (loss(groups={"de": 0.01, "fr": 0.015}), ["loss of fr"]),
        (loss(groups={"de": 0.01}), ["loss of fr"]),
        ({"fidelity": None}, ["loss"]),
        ({"signature": {"missing": ["logits"]}}, ["output logits"]),
        ({"missed": "--speedup 3 is not met: 2.00"}, ["conditions"]),
        ({"latency": REPORT["latency"] | {"change": SLOWER}}, ["latency"]),
    ],
)  # fmt: skip
def test_each_row(changes: dict[str, Any], failed: list[str]) -> None:
    found = verdicts.rows(REPORT, facts(**changes), Bounds())
    assert [row.name for row in found if row.status == FAILED] == failed
    assert len(verdicts.failures(found)) == len(failed)


def test_an_interval_that_holds_the_bound_is_decided_by_its_middle() -> None:
    for value, status in ((1.08, PASSED), (1.12, FAILED)):
        latency = {"speedup": 1.0, "ci95": [1, 1]}
        latency["change"] = {"value": value, "low": 1.0, "high": 1.2}  # type: ignore[assignment]
        row = verdicts.rows(REPORT, facts(latency=latency), Bounds())[0]
        assert row.status == status
        assert "its middle decides" in row.reason


def test_what_was_left_unchanged_takes_the_time_it_took() -> None:
    assert verdicts.share(REPORT | {"latency": None}) == (1.0, 1.0, 1.0)
    assert verdicts.share(REPORT | {"latency": None, "passes": [{"status": "kept"}]}) is None
    given = {key: value for key, value in REPORT.items() if key != "passes"}
    assert verdicts.share(given | {"latency": None}) is None


def test_names_are_escaped() -> None:
    row = {
        "name": "loss of a|b</td>`\x1b[31m", "unit": "loss", "baseline": 0.0, "current": 0.5,
        "change": 0.5, "interval": None, "allowed": 0.01, "status": FAILED, "reason": "",
    }  # fmt: skip
    told = {"rows": [row], "passed": False, "warnings": [], "against": {"path": "b.json"}}
    summary = markdown(told, "a<script>|.onnx")
    assert "<script>" not in summary and "</td>" not in summary and "\x1b" not in summary
    assert "a|b" not in summary
    case = ElementTree.fromstring(junit(told, "a<script>\x00.onnx", 1.0)).find(".//testcase")
    assert case is not None and str(case.get("name")).startswith("loss of a|b</td>`\\x1b")


def options_of_check() -> set[str]:
    parameters = typer.main.get_command(cli.app).commands["check"].params  # type: ignore[attr-defined]
    return {name for item in parameters for name in item.opts}


def test_the_action_hands_its_inputs_on(tmp_path: Path) -> None:
    """Its step in a real shell, with a program that says what it is given."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    assert set(re.findall(r"--[a-z-]+", step["run"])) <= options_of_check()
    used = set(re.findall(r"inputs\.([a-z-]+)", str(action["runs"])))
    assert used == set(action["inputs"])
    program = tmp_path / "optimize"
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit $CODE\n')
    program.chmod(0o755)
    inputs = {name: str(item.get("default", "")) for name, item in action["inputs"].items()}
    inputs |= {"model": "a b.onnx; exit 9", "against": "b.json", "arguments": "--threads 2"}
    values = {key: inputs[value.split(".")[1].rstrip(" }")] for key, value in step["env"].items()}
    for code in (0, 1):
        told = tmp_path / f"told-{code}"
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODE": str(code), **values}
        environment["GITHUB_OUTPUT"] = str(told)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert done.stdout.splitlines() == [
            "check", "a b.onnx; exit 9", "--against", "b.json", "--max-latency-ratio", "1.1",
            "--max-size-ratio", "1.05", "--max-drop", "0.01", "--threads", "2",
        ]  # fmt: skip
        assert told.read_text() == f"passed={'false' if code else 'true'}\n"


@pytest.mark.parametrize("name", ["github.yml", "gitlab-ci.yml"])
def test_examples_name_options_that_there_are(name: str) -> None:
    text = (ROOT / "examples" / "ci" / name).read_text()
    whole = yaml.safe_load(text)
    known = options_of_check()
    inputs = set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    if "jobs" in whole:
        (step,) = (item for item in whole["jobs"]["check"]["steps"] if item["uses"] == "./burnish")
        assert set(step["with"]) <= inputs
        return
    for job in whole.values():
        assert set(re.findall(r"--[a-z-]+", job["script"][0])) <= known
