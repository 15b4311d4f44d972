"""`optimize plan --shards`: ranks that together are the model, at the prompt and in Python."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from generating import artifact, built
from harness import unsupervised
from typer.testing import CliRunner

import burnish
from burnish import driver
from burnish.cli import app
from burnish.driver import Request
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.errors import (
    DeadlineExceeded,
    InvalidModel,
    UnsupportedModel,
    UsageError,
    WorkerFailed,
)
from burnish.runtimes.shards.group import ProcessGroup
from burnish.runtimes.tensor_parallel import TensorParallel

TAGGER = Path(__file__).parents[1] / "examples" / "tagger" / "model.onnx"
FEED = {
    "input_ids": np.arange(24).reshape(2, 12) + 5,
    "attention_mask": np.ones((2, 12), np.int64),
}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tagger over two ranks."""
    folder = tmp_path_factory.mktemp("shards") / "ranks"
    with unsupervised():
        facts = driver.plan_stages(Request(str(TAGGER)), None, str(folder), shards=2)
    return folder, json.loads(json.dumps(facts))


@pytest.fixture(params=["threads", "processes"])
def ranks(
    sharded: tuple[Path, dict[str, Any]], request: pytest.FixtureRequest
) -> Iterator[TensorParallel]:
    with burnish.load(sharded[0], workers=request.param) as opened:
        yield opened


@pytest.fixture
def processes(sharded: tuple[Path, dict[str, Any]]) -> Iterator[TensorParallel]:
    with burnish.load(sharded[0]) as opened:
        yield opened


def whole() -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(TAGGER).run(None, FEED)[0]
    return found


def pids(runtime: TensorParallel) -> list[int]:
    (group,) = runtime.groups
    assert isinstance(group, ProcessGroup)
    return group.pids


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_split_is_told(sharded: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = sharded
    assert facts["error"] <= 1e-5 and facts["ranks"] == 2
    assert facts["rank_weights_bytes"] - facts["whole_bytes"] < 0.55 * (
        facts["weights_bytes"] - facts["whole_bytes"]
    )
    told = json.loads((folder / MANIFEST).read_text())
    (stage,) = told["stages"]
    assert told["inputs"] == ["input_ids", "attention_mask"] and told["outputs"] == ["logits"]
    names = {name for part in stage["ranks"][0]["parts"] for name in part["reduce"]}
    assert names == facts["reduced"].keys()
    for rank in stage["ranks"]:
        for part in rank["parts"]:
            onnx.checker.check_model(folder / part["file"])
            session = onnxruntime.InferenceSession(folder / part["file"])
            assert [port.name for port in session.get_inputs()] == part["inputs"]
            assert [port.name for port in session.get_outputs()] == part["outputs"]


def test_caches_are_split_by_heads(tmp_path: Path) -> None:
    """A decoder with two heads of keys over two ranks, whose ports stay those of the model."""
    source = artifact("llama", tmp_path / "llama", built("llama")) / "model.onnx"
    with unsupervised():
        facts = driver.plan_stages(Request(str(source)), None, str(tmp_path / "two"), shards=2)
    assert facts["error"] <= 1e-5
    (stage,) = json.loads((tmp_path / "two" / MANIFEST).read_text())["stages"]
    assert stage["split"]["past_key_values.0.key"] == {"axis": 1, "parts": [[0, 1], [1, 2]]}
    assert stage["split"]["present.1.value"]["axis"] == 1
    session = onnxruntime.InferenceSession(source)
    with burnish.load(tmp_path / "two", workers="threads") as runtime:
        theirs = {port.name: port.shape for port in session.get_inputs()}
        assert {port.name: list(port.shape) for port in runtime.get_inputs()} == theirs


def test_ranks_answer_as_the_whole(ranks: TensorParallel) -> None:
    (found,) = ranks.run(None, FEED)
    np.testing.assert_allclose(found, whole(), atol=1e-5)
    again = ranks.submit(FEED, ["logits"]).result()[0]
    assert (again == found).all()  # sums are in the order of the ranks
    assert [port.name for port in ranks.get_inputs()] == ["input_ids", "attention_mask"]
    assert ranks.health()["healthy"]


def test_threads_and_processes_give_the_same_bits(sharded: tuple[Path, dict[str, Any]]) -> None:
    found = []
    for kind in ("threads", "processes"):
        with burnish.load(sharded[0], workers=kind) as runtime:
            found.append(runtime.run(None, FEED)[0])
    assert (found[0] == found[1]).all()


def test_errors_of_feeds_come_in_their_turn(ranks: TensorParallel) -> None:
    wrong = FEED | {"input_ids": FEED["input_ids"].astype(np.float32)}
    results = ranks.map([FEED, wrong, FEED])
    assert (next(results)[0] == ranks.run(None, FEED)[0]).all()
    with pytest.raises(UnsupportedModel, match="Unexpected input data type"):
        next(results)
    np.testing.assert_allclose(ranks.run(None, FEED)[0], whole(), atol=1e-5)
    with pytest.raises(UsageError, match="input attention_mask is missing"):
        ranks.run(None, {"input_ids": FEED["input_ids"]})
    with pytest.raises(UsageError, match="there is no output hidden"):
        ranks.run(["hidden"], FEED)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_rank_ends_one_request(processes: TensorParallel, sign: signal.Signals) -> None:
    before, lost = processes.run(None, FEED)[0], pids(processes)
    os.kill(lost[1], sign)
    with pytest.raises(WorkerFailed, match=r"stage 1, rank 2 (died|hangs)"):
        processes.run(None, FEED)
    assert (processes.run(None, FEED)[0] == before).all()
    assert not set(lost) & set(pids(processes)) and all(map(is_gone, lost))


def test_a_deadline_ends_the_request(processes: TensorParallel) -> None:
    with pytest.raises(DeadlineExceeded, match="within"):
        processes.run(None, FEED, deadline=1e-9)
    np.testing.assert_allclose(processes.run(None, FEED, deadline=600)[0], whole(), atol=1e-5)


def test_nothing_is_left(sharded: tuple[Path, dict[str, Any]]) -> None:
    started, files = [], []
    with burnish.load(sharded[0]) as runtime:
        for _ in range(3):
            runtime.run(None, FEED)
            gc.collect()  # what other tests left is not counted
            files.append(len(os.listdir("/proc/self/fd")))
            started += pids(runtime)
            os.kill(started[-2], signal.SIGKILL)
            with pytest.raises(WorkerFailed):
                runtime.run(None, FEED)
    runtime.close()
    assert files[1] == files[2]
    end = time.monotonic() + 60
    while not all(map(is_gone, started)):
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(UsageError, match="it is closed"):
        runtime.run(None, FEED)


def test_folders_that_hold_no_ranks(sharded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(sharded[0], tmp_path / "broken")
    file = tmp_path / "broken" / MANIFEST
    told = json.loads(file.read_text())
    told["stages"][0]["ranks"][1]["parts"][0]["reduce"] = []  # the other rank would wait for it
    file.write_text(json.dumps(told))
    with pytest.raises(InvalidModel, match="names no ranks"):
        burnish.load(tmp_path / "broken")
    with pytest.raises(UsageError, match="one provider"):
        burnish.load(sharded[0], threads=[1, 2])


def test_ranks_run_at_the_prompt(sharded: tuple[Path, dict[str, Any]]) -> None:
    with unsupervised():
        facts = driver.run(Request(str(sharded[0]), shape={"batch": 2}))
    assert facts["runs"][0]["outputs"]["logits"]["shape"][0] == 2


def test_the_command(tmp_path: Path) -> None:
    command = ["plan", str(TAGGER), "--shards", "2"]
    with unsupervised():
        shown = CliRunner().invoke(app, command, env={"COLUMNS": "140"})
    assert shown.exit_code == 0, shown.output
    for words in ("2 ranks meet", "sums of", "ports in parts: logits"):
        assert words in shown.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "a plan needs one of --cluster, --devices and --shards"),
        (["--shards", "64"], "nothing of it is worth splitting over 64 ranks"),
    ],
)
def test_error_lines(arguments: list[str], line: str, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.onnx"
    text = (
        "<ir_version: 8, opset_import: ['': 17]> g (float[n, 4] x) => (float[n, 4] y) {y=Relu(x)}"
    )
    onnx.save(onnx.parser.parse_model(text.replace("'", '"')), tiny)
    with unsupervised():
        shown = CliRunner().invoke(app, ["plan", str(tiny), *arguments])
    assert shown.exit_code in (2, 3)
    assert line in " ".join(shown.output.split())
