"""`optimize plan --wire`: stages that send each other less, within the budget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import unsupervised
from samples import encoder
from typer.testing import CliRunner

import burnish
from burnish import driver
from burnish.cli import app
from burnish.driver import Request
from burnish.optimizer.errors import UsageError

TAGGER = Path(__file__).parents[1] / "examples" / "tagger" / "model.onnx"
SLOW = "devices: [{name: a, count: 3, flops: 100G, bandwidth: 20G}]\nlink: {bandwidth: 100M}\n"
FREE = "devices: [{name: a, count: 3, flops: 100G, bandwidth: 20G}]\n"


def cluster(folder: Path, text: str = SLOW) -> str:
    (folder / "cluster.yaml").write_text(text)
    return str(folder / "cluster.yaml")


@pytest.fixture
def small(tmp_path: Path) -> str:
    """An encoder whose hidden states are compared by their angle."""
    onnx.save(encoder(layers=3, width=64), tmp_path / "small.onnx")
    return str(tmp_path / "small.onnx")


def test_a_quarter_is_sent_and_the_answers_stay(tmp_path: Path) -> None:
    stages = tmp_path / "stages"
    with unsupervised():
        facts = driver.plan_stages(
            Request(str(TAGGER)), cluster(tmp_path), str(stages), wire="int8"
        )
    sent = sum(stage["sends_bytes"] for stage in facts["stages"])
    assert sent / sum(stage["sends_bytes_whole"] for stage in facts["stages"]) < 0.27
    wire = facts["wire"]
    assert set(wire["cuts"]) == {"int8"} and wire["drop"] <= 0.01 and facts["error"] <= 1e-5
    assert 1e-5 < wire["fidelity"]["outputs"]["logits"]["rel_l2"] < 0.02
    told = json.loads((stages / "manifest.json").read_text())
    for item in told["wire"].values():
        assert item["as"] == "int8" and set(item["ports"]) <= set(
            told["stages"][0]["outputs"]
        ) | set(told["stages"][1]["outputs"])
    random = np.random.default_rng(0)
    ids = random.integers(0, 1000, (2, 24))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    whole, pipeline = burnish.load(TAGGER, threads=1), burnish.load(stages, threads=1)
    expected, found = (item.run(None, feed)[0] for item in (whole, pipeline))
    pipeline.close()
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.02


def test_auto_sends_no_less_than_the_links_ask_for(tmp_path: Path) -> None:
    def cuts(text: str) -> set[str]:
        with unsupervised():
            given = cluster(tmp_path, text)
            facts = driver.plan_stages(Request(str(TAGGER), check=False), given, wire="auto")
        return set(facts["wire"]["cuts"])

    assert cuts(FREE) == {"float32"}
    assert cuts(SLOW.replace("100M", "40M")) - {"float32"}


def test_a_budget_that_is_spent_lets_cuts_fall_back(small: str, tmp_path: Path) -> None:
    slow = cluster(tmp_path)

    def planned(budget: float) -> dict[str, object]:
        with unsupervised():
            request = Request(small, max_drop=budget)
            return dict(driver.plan_stages(request, slow, wire="int8")["wire"])

    free = planned(0.5)
    assert set(free["cuts"]) == {"int8"} and free["drop"] > 0  # type: ignore[call-overload, operator]
    half = planned(free["drop"] * 0.6)  # type: ignore[operator]
    assert half["drop"] <= free["drop"] * 0.6 and len(half["losses"]) == len(half["cuts"])  # type: ignore[operator, arg-type]
    assert set(half["cuts"]) - {"int8"}  # type: ignore[call-overload]


def test_the_command_ends_with_1_where_no_cut_bears_it(small: str, tmp_path: Path) -> None:
    command = ["plan", small, "--cluster", cluster(tmp_path), "--wire", "int8", "--max-drop", "0"]
    with unsupervised():
        shown = CliRunner().invoke(app, command, env={"COLUMNS": "140"})
    assert shown.exit_code == 1
    assert "--max-drop 0 is not met by --wire int8: cut" in shown.output
    assert "each cut by itself would cost" in shown.output


def test_a_wire_that_is_not_known(tmp_path: Path) -> None:
    with unsupervised(), pytest.raises(UsageError, match="--wire int4 is not known"):
        driver.plan_stages(Request(str(TAGGER)), cluster(tmp_path), wire="int4")
