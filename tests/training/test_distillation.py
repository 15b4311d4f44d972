"""Students learn: held-out fidelity rises; a training that was ended goes on as if it was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from harness import made_up
from samples import encoder
from test_cli import command

from burnish.driver import students
from burnish.driver.distillation import distil_model
from burnish.driver.request import Request
from burnish.driver.students import Distilling, kept_of
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.errors import StorageError, UsageError
from burnish.training import losses
from burnish.training.losses import Weights
from burnish.training.network import Network
from burnish.training.taps import Relation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A teacher with three layers, and feeds for it."""
    onnx.save(encoder(layers=3), tmp_path / "teacher.onnx")
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    for index in range(24):
        ids = random.integers(0, 48, (8, 10 + index % 3))
        mask = np.ones_like(ids)
        mask[: index % 8, 7:] = 0
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        np.savez(tmp_path / "data" / f"{index:02}.npz", **feed)
    return tmp_path


def trained(
    folder: Path, asked: Distilling, emit: Callable[[dict[str, Any]], None] = lambda event: None
) -> dict[str, Any]:
    """The report of a distillation in this process; the student is `student.onnx`."""
    request = Request(
        str(folder / "teacher.onnx"), data=str(folder / "data"), threads=1,
        output=str(folder / "student.onnx"),
    )  # fmt: skip
    students.validate(request, asked)
    (folder / "staging").mkdir(exist_ok=True)
    argument = {"staging": str(folder / "staging"), "distilling": vars(asked)}
    return distil_model(vars(request) | argument, emit)


SHORT = Distilling("layers=1", steps=40, rate=5e-3)


def test_a_student_comes_closer_to_its_teacher(folder: Path) -> None:
    report = trained(folder, replace(SHORT, steps=120))
    before, after = report["losses"]["before"], report["losses"]["after"]
    assert after["fidelity"] > before["fidelity"] + 0.1
    for kind in ("logits", "hidden", "relations"):
        assert after[kind] < before[kind]
    assert report["training"]["states"] == 1
    assert report["student"]["parameters"] < report["student"]["teacher_parameters"]
    session = onnxruntime.InferenceSession(folder / "student.onnx")
    assert [port.name for port in session.get_outputs()] == ["last_hidden_state", "logits"]
    assert not (folder / "student.onnx.training.npz").exists()
    digest = {item.key: item.value for item in onnx.load(folder / "student.onnx").metadata_props}
    assert json.loads(digest["burnish"])["teacher"] == report["teacher"]["sha256"]


def test_the_same_seed_gives_the_same_bytes(folder: Path) -> None:
    trained(folder, SHORT)
    first = (folder / "student.onnx").read_bytes()
    trained(folder, SHORT)
    assert (folder / "student.onnx").read_bytes() == first


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_goes_on_as_if_it_had_not_ended(folder: Path, optimizer: str) -> None:
    order = replace(SHORT, optimizer=optimizer)
    whole = trained(folder, order)
    wanted = (folder / "student.onnx").read_bytes()

    def interrupt(event: dict[str, Any]) -> None:
        if event.get("step") == 21 and event["stage"] == "training":
            os.kill(os.getpid(), signal.SIGINT)

    ended = trained(folder, order, interrupt)
    assert ended["training"]["ended"] == "interrupted"
    assert ended["training"]["steps"] == 21
    assert (folder / "student.onnx").exists()
    resumed = trained(folder, replace(order, resume=True))
    assert resumed["training"]["history"] == whole["training"]["history"]
    assert (folder / "student.onnx").read_bytes() == wanted
    assert not (folder / "student.onnx.training.npz").exists()


def test_what_is_resumed_is_the_same_training(folder: Path) -> None:
    with pytest.raises(StorageError, match="there is nothing to go on with"):
        trained(folder, replace(SHORT, resume=True))

    def interrupt(event: dict[str, Any]) -> None:
        if event.get("step") == 5:
            os.kill(os.getpid(), signal.SIGINT)

    trained(folder, SHORT, interrupt)
    with pytest.raises(UsageError, match="of another teacher, student or data"):
        trained(folder, replace(SHORT, resume=True, rate=1e-3))
    (folder / "student.onnx.training.npz").write_bytes(b"torn")
    with pytest.raises(StorageError, match="does not hold"):
        trained(folder, replace(SHORT, resume=True))


def test_training_ends_where_nothing_gets_better(folder: Path) -> None:
    report = trained(folder, replace(SHORT, steps=400, rate=1.0, patience=1))
    told = any("nothing was gained" in item for item in report["warnings"])
    assert told == (report["training"]["best_step"] == 0)
    assert report["training"]["ended"] == "no better any more"
    assert report["training"]["steps"] < 400


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_student_of_its_own_recovers_what_pruning_lost(folder: Path, optimizer: str) -> None:
    """A file whose weights were damaged; the trained one has its graph and its ports."""
    model = onnx.load(folder / "teacher.onnx")
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim == 2 and array.dtype == np.float32:
            masked = array * (random.random(array.shape) > 0.4)
            tensor.CopyFrom(onnx.numpy_helper.from_array(masked.astype(np.float32), tensor.name))
    onnx.save(model, folder / "pruned.onnx")
    before, zeros = masks_of(folder / "pruned.onnx")
    order = replace(SHORT, student=str(folder / "pruned.onnx"), steps=60, optimizer=optimizer)
    report = trained(folder, order)
    assert report["losses"]["after"]["loss"] < 0.7 * report["losses"]["before"]["loss"]
    after, left = masks_of(folder / "student.onnx")
    assert after == before
    assert left == zeros == report["student"]["masked"]["zeros"]


def masks_of(path: Path) -> tuple[set[bytes], int]:
    """Where the float32 matrices of a file are zero, stored either way; how many elements are."""
    arrays = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    matrices = [item == 0 for item in arrays if item.ndim == 2 and item.dtype == np.float32]
    found = {min(item.tobytes(), item.T.tobytes()) for item in matrices if item.any()}
    return found, sum(int(item.sum()) for item in matrices)


def test_a_student_without_zeros_is_held_to_none(folder: Path) -> None:
    report = trained(folder, replace(SHORT, steps=1))
    assert report["student"]["masked"] == {"matrices": 0, "zeros": 0}


def test_the_command_trains_in_a_child(folder: Path) -> None:
    out = folder / "small.onnx"
    line = ("distill", folder / "teacher.onnx", "--student", "layers=2,channels=0.5", "--data",
            folder / "data", "--steps", 10, "--threads", 1, "-o", out, "--json",
            folder / "report.json", "-q")  # fmt: skip
    assert command(*line) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["output"]["path"] == str(out)
    feeds = made_up(onnx_model(out))
    assert feeds
    network = Network(onnx_model(out))
    wanted = onnxruntime.InferenceSession(out).run(["logits"], dict(feeds[0]))[0]
    assert relative_l2(wanted, network.answers(feeds[0])["logits"]) < 1e-5


def onnx_model(path: Path) -> Any:
    import onnx_ir as ir

    return ir.from_proto(onnx.load(path))


def test_an_interrupt_at_the_prompt_keeps_the_best(folder: Path) -> None:
    out = folder / "small.onnx"
    line = [sys.executable, "-m", "burnish", "distill", str(folder / "teacher.onnx"), "--student",
            "layers=1", "--data", str(folder / "data"), "--steps", "100000", "--patience", "1000",
            "--threads", "1", "-o", str(out)]  # fmt: skip
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for text in process.stderr:
        if text.startswith("training"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out_text, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out_text
    onnxruntime.InferenceSession(out)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [("layers=2", {"layers": 2}), ("heads=4, channels=0.5", {"heads": 4, "channels": 0.5}),
     ("student.onnx", {})],
)  # fmt: skip
def test_what_a_student_keeps(spec: str, kept: dict[str, float]) -> None:
    assert kept_of(spec) == kept


@pytest.mark.parametrize("spec", ["layers=x", "layers=1.5", "channels=2", "heads", "layers=0,x=3"])
def test_what_means_nothing(spec: str) -> None:
    with pytest.raises(UsageError, match="--student"):
        students.validate(Request("m.onnx", data="d"), Distilling(spec, steps=1))


@pytest.mark.parametrize(
    ("request_", "asked", "line"),
    [
        (Request("m.onnx"), SHORT, "a student learns from texts"),
        (Request("m.onnx", data="d"), replace(SHORT, steps=0), "no end to the training"),
        (Request("m.onnx", data="d"), replace(SHORT, logits=0, hidden=0, relations=0), "weight 0"),
        (Request("m.onnx", data="d"), replace(SHORT, student="gone.onnx"), "is no file"),
        (Request("m.onnx", data="d"), replace(SHORT, optimizer="sgd"), "neither adamw nor muon"),
        (Request("m.onnx", data="d", output="gone/s.onnx"), SHORT, "folder gone does not exist"),
    ],
)
def test_orders_that_make_no_sense(request_: Request, asked: Distilling, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        students.validate(request_, asked)


def test_relations_do_not_depend_on_how_heads_are_cut() -> None:
    """Two attentions with heads of other numbers, of the same values, are alike."""
    torch.manual_seed(0)
    rows = {name: torch.randn(2, 5, 16) for name in "qkv"}
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    pair = Relation("q", "k", "v", 4, 4), Relation("q", "k", "v", 2, 2)
    assert float(losses.relations(rows, rows, pair, mask)) == pytest.approx(0.0, abs=1e-6)
    other = rows | {"k": torch.randn(2, 5, 16)}
    assert float(losses.relations(rows, other, pair, mask)) > 0.01


def test_padding_counts_for_nothing() -> None:
    torch.manual_seed(0)
    first = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    second = first.clone()
    second[1, 2:] += 100.0
    assert float(losses.distance(first, second, mask)) == pytest.approx(0.0)
    assert float(losses.divergence(first, second, mask, 2.0)) == pytest.approx(0.0, abs=1e-7)
    assert Weights().temperature == 2.0
