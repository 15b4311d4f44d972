"""`--prune` as a user gives it: what is refused, what is reached, what the report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import unsupervised
from samples import encoder
from test_cli import command, report_of, step
from test_plan import cluster

from burnish import driver
from burnish.driver import Request

RANDOM = np.random.default_rng(0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(width=64, heads=4, vocabulary=128), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "feeds"
    folder.mkdir()
    for index in range(20):
        shape = (4, int(RANDOM.integers(8, 24)))
        mask = np.ones(shape, np.int64)
        mask[1, shape[1] // 2 :] = 0
        ids = RANDOM.integers(0, 128, shape)
        kinds = np.zeros(shape, np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        np.savez(folder / f"{index:02}.npz", **feed)
    return folder


def test_a_share_goes_and_the_report_says_where(model: Path, data: Path) -> None:
    options = ("--prune", "0.3", "--data", data, "--max-drop", "0.9", "--no-measure")
    report = report_of(model, *options)
    told = report["pruning"]
    assert told["asked"] == "0.3"
    assert 0.29 < told["removed"] < 0.9
    assert {row["kind"] for row in told["sites"]} == {"heads", "channels"}
    assert all(row["after"] <= row["before"] for row in told["sites"])
    assert told["limited"] == ""
    assert step(report, "prune")["promise"] == "lossy"
    artifact = model.with_name("model.opt.onnx")
    onnx.checker.check_model(onnx.load(artifact))
    with unsupervised():
        stages = str(model.parent / "stages")
        plan = driver.plan_stages(Request(str(artifact)), cluster(model.parent), stages)
    assert plan["error"] <= 1e-5


def test_units_go_by_their_activations_where_that_is_asked_for(model: Path, data: Path) -> None:
    options = ("--prune", "0.3", "--data", data, "--max-drop", "0.9", "--no-measure")
    quick = report_of(model, *options, "--importance", "activations")["pruning"]
    assert 0.29 < quick["removed"] < 0.9
    assert all(row["sizes"] is None and row["rank"] is None for row in quick["sites"])
    exact = report_of(model, *options, "--importance", "second-order")["pruning"]
    assert exact["sites"] == report_of(model, *options)["pruning"]["sites"] != quick["sites"]


def test_the_budget_is_kept_and_what_is_missed_is_said(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--prune", "0.6", "--data", data, "--max-drop", "0.002", "--no-measure")
    report = report_of(model, *options, code=1)
    assert report["fidelity"]["drop"] <= 0.002
    assert report["pruning"]["removed"] < 0.59
    assert "more than the budget of 0.002" in report["pruning"]["limited"]
    assert "--prune 0.6 is not met" in capsys.readouterr().err


def test_as_much_as_the_budget_allows(model: Path, data: Path) -> None:
    options = ("--prune", "auto", "--data", data, "--max-drop", "0.05", "--no-measure")
    report = report_of(model, *options)
    assert report["fidelity"]["drop"] <= 0.05
    assert 0.0 < report["pruning"]["removed"] < 0.9


def test_int8_comes_behind(model: Path, data: Path) -> None:
    options = ("--prune", "0.3", "--int8", "--data", data, "--max-drop", "0.9", "--no-measure")
    onnx.save(encoder(width=128, heads=4, vocabulary=512), model)  # wide enough for int8
    report = report_of(model, *options)
    assert step(report, "prune")["status"] == step(report, "int8")["status"] == "kept"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--prune", "0.3"], "--prune needs --data: made-up inputs do not say what counts"),
        (["--prune", "1.5"], "--prune 1.5 is neither a share between 0 and 1 nor auto"),
        (["--prune", "most"], "--prune most is neither a share between 0 and 1 nor auto"),
        (["--prune", "0.3", "--no-check"], "--prune needs the runs of the model"),
        (["--prune", "0.3", "-O1"], "--prune loses, which -O1 rules out"),
        (["--prune", "0.3", "--precision", "auto"], "--prune needs one precision"),
        (["--prune", "0.3", "--importance", "most"], "--importance most is not known"),
        (["--importance", "activations"], "--importance is what --prune goes by"),
    ],
)
def test_what_is_refused(
    model: Path, data: Path, options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options if line.startswith("--prune needs --data") else [*options, "--data", str(data)]
    assert command(model, *given, "-q") == 2
    assert line in capsys.readouterr().err
