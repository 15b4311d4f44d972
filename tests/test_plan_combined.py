"""`optimize plan --objective`: replicas and groups, as they are told, drawn, written and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from harness import unsupervised
from typer.testing import CliRunner

import burnish
from burnish import driver
from burnish.cli import app
from burnish.driver import Request, grouped
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.errors import ResourceLimit, UsageError
from burnish.rendering.drawing import drawing, names

TAGGER = Path(__file__).parents[1] / "examples" / "tagger" / "model.onnx"
NODES = (
    "devices: [{name: gpu, nodes: 2, count: 2, flops: 1G, bandwidth: 1G, memory: 5M}]\n"
    "link: {bandwidth: 100M, latency: 0.00002}\ninside: {bandwidth: 10G}\n"
)
UNEVEN = (
    "devices:\n- {name: big, flops: 1G, bandwidth: 1G}\n"
    "- {name: small, count: 3, flops: 400M, bandwidth: 400M, memory: 3M}\n"
)


def planned(folder: Path, text: str, *, write: bool = False, **options: Any) -> dict[str, Any]:
    (folder / "cluster.yaml").write_text(text)
    output = str(folder / "stages") if write else None
    with unsupervised():
        return driver.plan_stages(
            Request(str(TAGGER)), str(folder / "cluster.yaml"), output, **options
        )


def right(folder: Path) -> bool:
    """Whether what was written gives what the model gives."""
    random = np.random.default_rng(0)
    feed = {
        "input_ids": random.integers(0, 1000, (2, 9)),
        "attention_mask": np.ones((2, 9), np.int64),
    }
    (expected,) = onnxruntime.InferenceSession(TAGGER).run(None, feed)
    with burnish.load(folder, threads=1, workers="threads") as runtime:
        return bool(np.allclose(runtime.run(None, feed)[0], expected, atol=1e-5))


def test_groups_are_written_in_parts_and_run(tmp_path: Path) -> None:
    facts = planned(tmp_path, NODES, write=True, shards=2, replicas=1)
    (stages,) = facts["replicas"]
    assert [len(stage["devices"]) for stage in stages] == [2, 2]
    assert facts["error"] <= 1e-5 and 0 <= facts["gap"] < 0.06
    assert all(0 < stage["reduces_seconds"] < stage["seconds"] for stage in stages)
    told = json.loads((tmp_path / "stages" / MANIFEST).read_text())["stages"]
    assert [[rank["device"] for rank in row["ranks"]] for row in told] == [
        stage["devices"] for stage in stages
    ]
    assert right(tmp_path / "stages")


def test_parts_that_differ_from_their_stage_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = grouped.run_ranks

    def wrong(bench: Any, row: Any, folder: Path, feeds: Any) -> Any:
        given = real(bench, row, folder, feeds)
        if len(row["ranks"]) > 1 and "logits" in row["outputs"]:
            given = [{name: array * 1.01 for name, array in item.items()} for item in given]
        return given

    monkeypatch.setattr(grouped, "run_ranks", wrong)
    facts = planned(tmp_path, NODES, write=True, shards=2, replicas=1)
    assert facts["error"] <= 1e-5
    assert "stage 2 is written whole: its parts differ from it" in facts["warnings"]
    told = json.loads((tmp_path / "stages" / MANIFEST).read_text())["stages"]
    assert "ranks" in told[0] and told[1]["file"] == "stage-2.onnx"
    assert not list((tmp_path / "stages").glob("stage-2-*"))


def test_replicas_that_are_cut_otherwise_are_written_beside(tmp_path: Path) -> None:
    facts = planned(tmp_path, UNEVEN, write=True, replicas=2, shards=1)
    cuts = sorted(len(stages) for stages in facts["replicas"])
    assert cuts == [1, 3] and facts["throughput"] * facts["bottleneck_seconds"] > 1.3
    told = json.loads((tmp_path / "stages" / MANIFEST).read_text())["replicas"]
    assert sorted(len(item["devices"]) for item in told) == cuts
    (other,) = [item["folder"] for item in told if "folder" in item]
    assert right(tmp_path / "stages") and right(tmp_path / "stages" / other)


def test_like_replicas_have_the_same_files(tmp_path: Path) -> None:
    facts = planned(tmp_path, NODES, write=True, replicas=2, shards=1)
    assert facts["objective"] == "throughput" and [len(s) for s in facts["replicas"]] == [2, 2]
    told = json.loads((tmp_path / "stages" / MANIFEST).read_text())["replicas"]
    nodes = [{name for stage in item["devices"] for name in stage} for item in told]
    assert nodes == [{"gpu:0", "gpu:1"}, {"gpu:2", "gpu:3"}]
    assert sorted(path.name for path in (tmp_path / "stages").glob("*.onnx")) == [
        "stage-1.onnx", "stage-2.onnx"
    ]  # fmt: skip


def test_latency(tmp_path: Path) -> None:
    free = NODES.replace(", memory: 5M", "")
    facts = planned(tmp_path, free, objective="latency")
    (stages,) = facts["replicas"]
    assert len(stages) == 1 and len(stages[0]["devices"]) == 2
    pipeline = planned(tmp_path, free)
    alone = pipeline["latency_seconds"]
    assert pipeline["combined"] is None or pipeline["combined"]["replicas"] == 4
    assert facts["bound_seconds"] * (1 - 1e-9) <= facts["latency_seconds"] < 0.65 * alone


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"objective": "speed"}, "--objective speed is not known"),
        ({"replicas": 0}, "--replicas is 0"),
        ({"shards": -1}, "--shards is -1"),
        ({"objective": "pipeline", "replicas": 2}, "is one pipeline of single devices"),
        ({"shards": 2, "wire": "int8"}, "--wire int8 is for stages of single devices"),
        ({"replicas": 9}, "9 replicas need as many devices, and there are 4"),
        ({"shards": 3}, "--shards 3 needs as many equal devices"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        planned(tmp_path, NODES, **options)


def test_replicas_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ResourceLimit, match=r"do not fit into 0\.02 GB on 4 devices"):
        planned(tmp_path, NODES, replicas=4, shards=1)


def test_the_command_draws_it(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(NODES.replace("5M", "3M"))
    command = ["plan", str(TAGGER), "--cluster", str(tmp_path / "cluster.yaml")]
    with unsupervised():
        shown = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    boxes = [line for line in shown.output.splitlines() if line.startswith(("+--", "|", " ---"))]
    assert boxes and max(map(len, boxes)) <= 80
    for words in ("| 1 gpu:0 ", "->", "no pipeline has one below", "what would help at most"):
        assert words in shown.output


def stage(*devices: str, seconds: float = 0.5) -> dict[str, Any]:
    return {
        "devices": list(devices), "operators": 7, "seconds": seconds, "sends_seconds": 0.001,
        "sends_bytes": 3e6, "memory_bytes": 5e8,
    }  # fmt: skip


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_drawings_keep_their_width(width: int) -> None:
    lines = drawing([[stage(f"gpu:{i}") for i in range(9)]], width)
    assert max(map(len, lines)) <= max(width, 38)
    assert all(line.isascii() for line in lines)
    assert sum(line.count("+" + "-" * 22 + "+") for line in lines) == 18


def test_drawings_of_groups_replicas_and_many_stages() -> None:
    lines = drawing([[stage("a:0", "a:1")], [stage("a:2", "a:3")], [stage("b", seconds=0.1)]], 80)
    text = "\n".join(lines)
    for words in ("replicas 1, 2", "| 1 a:0-1 ", "| 2 as one", "replica 2 on a:2-3", "replica 3"):
        assert words in text
    assert text.count("#" * 20) == 1 and "| ####  " in text
    many = "\n".join(drawing([[stage(f"d:{i}") for i in range(64)]], 120))
    assert "52 more" in many and "| 64 d:63" in many and "d:20" not in many


def test_names_of_groups() -> None:
    assert names(["gpu:3"], 20) == "gpu:3"
    assert names(["gpu:0", "gpu:1", "gpu:2"], 20) == "gpu:0-2"
    assert names(["gpu:0", "gpu:2"], 20) == "gpu:0, gpu:2"
    assert names(["a", "b"], 20) == "a, b"
