"""`optimize plan`: stages that together are the model, and what is said of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
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
    BurnishError,
    InvalidModel,
    ResourceLimit,
    UnsupportedModel,
    UsageError,
)
from burnish.runtimes.pipeline import Pipeline

TAGGER = Path(__file__).parents[1] / "examples" / "tagger" / "model.onnx"
THREE = "devices: [{name: a, count: 3, flops: 1G, bandwidth: 1G}]\n"


def cluster(folder: Path, text: str = THREE) -> str:
    (folder / "cluster.yaml").write_text(text)
    return str(folder / "cluster.yaml")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tagger in three stages."""
    folder = tmp_path_factory.mktemp("plan")
    with unsupervised():
        facts = driver.plan_stages(Request(str(TAGGER)), cluster(folder), str(folder / "stages"))
    return folder / "stages", json.loads(json.dumps(facts))


@pytest.fixture
def pipeline(planned: tuple[Path, dict[str, Any]]) -> Iterator[Pipeline]:
    opened = burnish.load(planned[0], threads=1)
    yield opened
    opened.close()


def feeds(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 30, count)
    return [
        {
            "input_ids": random.integers(0, 1000, (2, length)),
            "attention_mask": np.ones((2, length), np.int64),
        }
        for length in lengths
    ]


def test_the_plan_is_told(planned: tuple[Path, dict[str, Any]]) -> None:
    _, facts = planned
    stages = facts["stages"]
    assert [stage["device"] for stage in stages] == ["a:0", "a:1", "a:2"]
    assert facts["error"] <= 1e-5 and not facts["loose"]
    assert facts["bottleneck_seconds"] >= facts["bound_seconds"] > 0
    assert facts["gap"] < 0.06
    assert facts["bottleneck_seconds"] == max(stage["seconds"] for stage in stages)
    assert [len(stage["sends"]) for stage in stages] == [1, 1, 0]  # the residual stream, no mask
    assert sum(stage["memory_bytes"] for stage in stages) == pytest.approx(6.9e6, rel=0.02)


def test_stages_are_plain_models(planned: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = planned
    told = json.loads((folder / MANIFEST).read_text())
    assert told["inputs"] == ["input_ids", "attention_mask"] and told["outputs"] == ["logits"]
    values = dict(feeds(1)[0])
    whole = onnxruntime.InferenceSession(TAGGER).run(None, values)[0]
    for row in told["stages"]:
        onnx.checker.check_model(folder / row["file"])
        session = onnxruntime.InferenceSession(folder / row["file"])
        assert [port.name for port in session.get_outputs()] == row["outputs"]
        found = session.run(row["outputs"], {name: values[name] for name in row["inputs"]})
        values |= dict(zip(row["outputs"], found, strict=True))
    np.testing.assert_allclose(values["logits"], whole, rtol=1e-4, atol=1e-5)


def test_caches_stay_with_their_stage(tmp_path: Path) -> None:
    """A decoder whose stages take and give the caches of their own layers."""
    source = artifact("llama", tmp_path / "llama", built("llama")) / "model.onnx"
    with unsupervised():
        two = cluster(tmp_path, THREE.replace("3", "2"))
        facts = driver.plan_stages(Request(str(source)), two, str(tmp_path / "stages"))
    assert facts["error"] <= 1e-5
    told = json.loads((tmp_path / "stages" / MANIFEST).read_text())["stages"]
    for layer in range(2):
        (home,) = [row for row in told if f"present.{layer}.key" in row["outputs"]]
        assert f"past_key_values.{layer}.key" in home["inputs"]


def test_one_feed_and_many(pipeline: Pipeline) -> None:
    whole = onnxruntime.InferenceSession(TAGGER)
    given = feeds(12)
    expected = [whole.run(None, feed)[0] for feed in given]
    assert [port.name for port in pipeline.get_inputs()] == ["input_ids", "attention_mask"]
    assert [port.name for port in pipeline.get_outputs()] == ["logits"]
    np.testing.assert_allclose(pipeline.run(None, given[0])[0], expected[0], atol=1e-5)
    found = list(pipeline.map(given, ["logits"]))
    assert len(found) == 12
    for (mine,), theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_feeds_are_taken_as_there_is_room(pipeline: Pipeline) -> None:
    taken = []

    def endless() -> Iterator[dict[str, np.ndarray]]:
        for index in range(10**6):
            taken.append(index)
            yield feeds(1)[0]

    before = threading.active_count()
    results = pipeline.map(endless())
    for _ in range(5):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 30
    assert threading.active_count() == before


def test_an_error_comes_in_its_turn(pipeline: Pipeline) -> None:
    given = feeds(6)
    given[3] = {"input_ids": given[3]["input_ids"]}
    results = pipeline.map(given)
    assert [len(next(results)) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(UsageError, match="input attention_mask is missing"):
        next(results)
    given[3] = {**given[2], "input_ids": given[2]["input_ids"].astype(np.float32)}
    with pytest.raises(Exception, match="Unexpected input data type"):
        list(pipeline.map(given))
    with pytest.raises(UsageError, match="there is no output hidden"):
        pipeline.run(["hidden"], given[0])


def test_folders_that_are_no_pipeline(planned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(planned[0], broken)
    told = json.loads((broken / MANIFEST).read_text())
    (broken / MANIFEST).write_text(json.dumps(told | {"stages": 3}))
    with pytest.raises(InvalidModel, match="names no stages"):
        burnish.load(broken)
    (broken / MANIFEST).write_text(json.dumps(told | {"inputs": None}))
    with pytest.raises(InvalidModel, match="lists no inputs"):
        burnish.load(broken)
    (broken / MANIFEST).write_text(json.dumps(told))
    (broken / "stage-2.onnx").unlink()
    with pytest.raises(BurnishError):
        burnish.load(broken)


def test_stages_are_run_at_the_prompt(planned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """On data, and on one made-up feed of the shape asked for."""
    feed, outputs = feeds(1)[0], tmp_path / "outputs.npz"
    np.savez(tmp_path / "data.npz", **feed)
    command = ["run", str(planned[0]), "--threads", "1"]
    with unsupervised():
        data = ["--data", str(tmp_path / "data.npz"), "-o", str(outputs)]
        shown = CliRunner().invoke(app, [*command, *data])
        assert shown.exit_code == 0, shown.output
        facts = driver.run(Request(str(planned[0]), shape={"batch": 3, "sequence": 5}))
    whole = onnxruntime.InferenceSession(TAGGER).run(None, feed)[0]
    np.testing.assert_allclose(np.load(outputs)["logits"], whole, atol=1e-5)
    assert facts["runs"][0]["outputs"]["logits"]["shape"] == [3, 5, 7]


def test_stages_of_a_decoder_generate(tmp_path: Path) -> None:
    """The tokenizer comes along; texts are those of the whole, also from processes of which one is
    killed."""
    source = artifact("gpt2", tmp_path / "gpt2", built("gpt2"))
    with unsupervised():
        two = cluster(tmp_path, THREE.replace("3", "2"))
        driver.plan_stages(Request(str(source / "model.onnx")), two, str(tmp_path / "stages"))
        command = ["--text", "the model reads", "--max-new-tokens", "12"]
        texts = [
            CliRunner().invoke(app, ["run", str(folder), *command])
            for folder in (source, tmp_path / "stages")
        ]
    assert [shown.exit_code for shown in texts] == [0, 0], texts[1].output
    assert texts[0].stdout == texts[1].stdout
    options = {"texts": ["the model", "and the text goes"], "max_new_tokens": 24, "seed": 1}
    whole, parts = (
        burnish.load(folder, task="text-generation", threads=1, **more)
        for folder, more in ((source, {}), (tmp_path / "stages", {"workers": "processes"}))
    )
    for more in ({}, {"do_sample": True}, {"num_beams": 2}, {"speculate": 3}):
        expected = whole.generate(**options, **more)
        assert parts.generate(**options, **more).ids == expected.ids

    pieces = []

    def strike(row: int, piece: str) -> None:
        pieces.append((row, piece))
        if len(pieces) == 5:
            os.kill(parts.model.decoder.session.pids()[1], signal.SIGKILL)

    found = parts.generate(**options, on_text=strike)
    assert found.texts == whole.generate(**options).texts
    assert ["".join(text for row, text in pieces if row == i) for i in range(2)] == found.texts
    batches = [[f"the model {word}", word] for word in ("reads", "goes", "texts", "on", "and")]
    with parts, whole:
        assert parts.health()["healthy"]
        for mine, batch in zip(parts.map(batches, max_new_tokens=20), batches, strict=True):
            assert mine.ids == whole.submit(batch, max_new_tokens=20).result(60).ids
        futures = [parts.submit(batch, max_new_tokens=60) for batch in batches]
        os.kill(parts.model.decoder.session.pids()[0], signal.SIGKILL)
        for future, batch in zip(futures, batches, strict=True):
            assert future.result(60).ids == whole.generate(batch, max_new_tokens=60).ids


def test_stages_of_no_decoder_generate_nothing(planned: tuple[Path, dict[str, Any]]) -> None:
    with unsupervised(), pytest.raises(UnsupportedModel, match="hands no caches on"):
        burnish.load(planned[0], task="text-generation")
    with pytest.raises(UsageError, match="stages that generate text are there once"):
        burnish.load(planned[0], task="text-generation", replicas=2)
    with pytest.raises(UsageError, match="stages are not run for fill-mask"):
        burnish.load(planned[0], task="fill-mask")


def test_stages_several_times(planned: tuple[Path, dict[str, Any]]) -> None:
    given = feeds(30)
    whole = onnxruntime.InferenceSession(TAGGER)
    with burnish.load(planned[0], threads=1, replicas=2, batch=4) as service:
        assert service.joined == {"model": ""}
        for feed, (found,) in zip(given, service.map(given), strict=True):
            np.testing.assert_allclose(found, whole.run(None, feed)[0], atol=1e-5)
        rows = service.health(deadline=60.0)
    assert [row["name"] for row in rows[:4]] == ["stage 1 1", "stage 2 1", "stage 3 1", "stage 1 2"]
    assert all(row["healthy"] and row["answers"] for row in rows)
    with pytest.raises(UsageError, match="there is no replica"):
        burnish.load(planned[0], replicas=0)


def towers(path: Path) -> Path:
    """Two branches that share nothing but the end of the graph, one after the other."""
    random, nodes, weights = np.random.default_rng(0), [], []
    for tower in "ab":
        name = f"{tower}_in"
        for layer in range(4):
            weight = random.standard_normal((64, 64), np.float32) / 8
            weights.append(onnx.numpy_helper.from_array(weight, f"{tower}{layer}"))
            inner, out = f"{tower}_{layer}_product", f"{tower}_{layer}"
            nodes.append(onnx.helper.make_node("MatMul", [name, f"{tower}{layer}"], [inner]))
            nodes.append(onnx.helper.make_node("Tanh", [inner], [out]))
            name = out
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(f"{t}_in", kind, ["batch", 64]) for t in "ab"]
    outputs = [onnx.helper.make_tensor_value_info(f"{t}_3", kind, ["batch", 64]) for t in "ab"]
    graph = onnx.helper.make_graph(nodes, "towers", inputs, outputs, weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_towers_become_stages_that_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A cut between them sends nothing, so that the plan takes it and both run at once."""
    path = towers(tmp_path / "towers.onnx")
    with unsupervised():
        two = cluster(tmp_path, THREE.replace("3", "2"))
        driver.plan_stages(Request(str(path)), two, str(tmp_path / "stages"))
    rows = json.loads((tmp_path / "stages" / MANIFEST).read_text())["stages"]
    assert [row["inputs"] for row in rows] == [["a_in"], ["b_in"]]
    random = np.random.default_rng(1)
    feed = {f"{t}_in": random.standard_normal((3, 64), np.float32) for t in "ab"}
    with burnish.load(tmp_path / "stages", threads=1) as pipeline:
        found = pipeline.run(None, feed)
        assert [row["answers"] for row in pipeline.told()] == [1, 1]
        pipeline.run(["b_3"], feed)
        assert [row["answers"] for row in pipeline.told()] == [1, 2]
    for mine, theirs in zip(found, onnxruntime.InferenceSession(path).run(None, feed), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_stages_on_different_providers(planned: tuple[Path, dict[str, Any]]) -> None:
    pytest.importorskip("openvino")
    given = feeds(6)
    whole = onnxruntime.InferenceSession(TAGGER)
    providers = ["cpu", "openvino", "cpu"]
    for workers in ("threads", "processes"):
        with burnish.load(planned[0], provider=providers, threads=1, workers=workers) as mixed:
            for feed, (found,) in zip(given, mixed.map(given), strict=True):
                np.testing.assert_allclose(found, whole.run(None, feed)[0], atol=1e-4)
            assert [row["healthy"] for row in mixed.health(deadline=60.0)] == [True] * 3
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            with pytest.raises(UsageError, match="the cuda provider did not start"):
                burnish.load(planned[0], provider=["cpu", "cuda", "cpu"], workers=workers)
    with pytest.raises(UsageError, match="2 are named for 3 stages"):
        burnish.load(planned[0], provider=["cpu", "cpu"])
    with pytest.raises(UsageError, match="provider abacus is not known"):
        burnish.load(planned[0], provider=["cpu", "abacus", "cpu"])


def test_too_little_memory(tmp_path: Path) -> None:
    tiny = cluster(tmp_path, "devices: [{count: 2, flops: 1G, bandwidth: 1G, memory: 2M}]")
    with unsupervised(), pytest.raises(ResourceLimit, match=r"do not fit into 0.00 GB on 2"):
        driver.plan_stages(Request(str(TAGGER)), tiny, str(tmp_path / "stages"))
    assert not (tmp_path / "stages").exists()


def test_the_command(tmp_path: Path) -> None:
    with unsupervised():
        command = ["plan", str(TAGGER), "--cluster", cluster(tmp_path)]
        shown = CliRunner().invoke(app, command, env={"COLUMNS": "140"})
    assert shown.exit_code == 0, shown.output
    for words in ("a:2", "no plan has a slowest stage below", "times an equal split"):
        assert words in shown.output
    assert not (tmp_path / "stages").exists()
