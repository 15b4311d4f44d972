"""Replicas, stages, batches and zoos on two nodes, one of which dies in the middle of a load."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from clusters import RAY_WARNINGS, TwoNodes, ray, token_feeds, two_nodes
from harness import unsupervised
from samples import encoder
from test_cli import command

import burnish
from burnish import driver
from burnish.driver import Request, on_ray
from burnish.driver.zoo import cluster as zoo_cluster
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.errors import (
    BurnishError,
    InvalidModel,
    ResourceLimit,
    UnsupportedModel,
    UsageError,
)
from burnish.runtimes.ray_cluster import actors, batches, files, replicas
from burnish.runtimes.ray_cluster.connection import Connection

pytestmark = [pytest.mark.filterwarnings(line) for line in RAY_WARNINGS]

TAGGER = Path(__file__).parents[2] / "examples" / "tagger" / "model.onnx"
RATES = "count: 2, flops: 1G, bandwidth: 1G"
FOUR = f"devices: [{{name: a, {RATES}}}, {{name: b, {RATES}}}]\n"


def tiny(path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        tiny (float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }
    """
    onnx.save(onnx.parser.parse_model(text), path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    with two_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger in four stages, two of them on devices that the second node has."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "cluster.yaml").write_text(FOUR)
    with unsupervised():
        plan = str(folder / "cluster.yaml"), str(folder / "stages")
        assert len(driver.plan_stages(Request(str(TAGGER)), *plan)["stages"]) == 4
    return folder / "stages"


def expected(feeds: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    one = burnish.load(TAGGER, threads=1)
    found = [one.run(None, feed)[0] for feed in feeds]
    one.close()
    return found


def held(found: list[Any], feeds: list[dict[str, np.ndarray]]) -> None:
    """Every feed is answered once, in order, and as it would be here."""
    assert len(found) == len(feeds)
    for (mine,), theirs in zip(found, expected(feeds), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_replicas_lose_no_request_with_a_node(cluster: TwoNodes) -> None:
    feeds = token_feeds(120)
    with burnish.load(TAGGER, ray=cluster.address, replicas=4) as four:
        assert [port.name for port in four.get_inputs()] == ["input_ids", "attention_mask"]
        assert [port.name for port in four.get_outputs()] == ["logits"]
        assert four.fallen() == []
        np.testing.assert_array_equal(four.run(["logits"], feeds[0])[0], expected(feeds[:1])[0])
        results = four.map(feeds)
        first = [next(results) for _ in range(20)]
        cluster.lose_a_node()
        held([*first, *results], feeds)


def test_stages_lose_no_request_with_a_node(cluster: TwoNodes, stages: Path) -> None:
    feeds = token_feeds(60, seed=1)
    with burnish.load(stages, ray=cluster.address) as pipeline:
        places = [ray.get(actor.node.remote()) for actor in pipeline._actors]
        assert places[0] == places[1] and places[2] == places[3] != places[0]
        assert [port.name for port in pipeline.get_inputs()] == ["input_ids", "attention_mask"]
        assert pipeline.fallen() == []
        held([pipeline.submit(feeds[0]).result()], feeds[:1])
        results = pipeline.map(feeds)
        first = [next(results) for _ in range(10)]
        cluster.lose_a_node()
        held([*first, *results], feeds)


def test_the_last_one_leaves_the_cluster(cluster: TwoNodes) -> None:
    feeds = token_feeds(3)
    first = burnish.load(TAGGER, ray=cluster.address)
    second = burnish.load(TAGGER, ray=cluster.address)
    first.close()
    first.close()
    held([second.run(None, feed) for feed in feeds], feeds)
    second.close()
    assert not ray.is_initialized()


def test_an_error_comes_in_its_turn(cluster: TwoNodes, stages: Path) -> None:
    feeds = token_feeds(6)
    feeds[3]["input_ids"] = feeds[3]["input_ids"].astype(np.float32)
    for path in (TAGGER, stages):
        with burnish.load(path, ray=cluster.address) as loaded:
            results = loaded.map(feeds)
            assert [len(next(results)) for _ in range(3)] == [1, 1, 1]
            with pytest.raises(Exception, match="Unexpected input data type"):
                next(results)
            with pytest.raises(Exception, match="attention_mask"):
                loaded.run(None, {"input_ids": feeds[0]["input_ids"]})
            with pytest.raises(Exception, match="hidden"):
                loaded.run(["hidden"], feeds[0])


def test_more_than_may_wait_is_refused(cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "WAITING", 3)
    feed = {name: np.tile(array, (64, 1)) for name, array in token_feeds(1)[0].items()}
    with burnish.load(TAGGER, ray=cluster.address) as one:
        futures = []
        with pytest.raises(ResourceLimit, match="3 requests are under way"):
            futures.extend(one.submit(feed) for _ in range(100))
        assert [len(future.result()) for future in futures] == [1] * len(futures)


def test_files_come_to_a_node_that_lacks_them(
    cluster: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in a file of their own, too; and nothing is left afterwards."""
    model = tmp_path / "model.onnx"
    onnx.save(encoder(), model, save_as_external_data=True, location="w.data", size_threshold=512)
    real = files.shipped

    def elsewhere(path: Path) -> Any:
        shipment, depot = real(path)
        assert [name for name, _ in shipment.digests] == ["model.onnx", "w.data"]
        return dataclasses.replace(shipment, folder="/nowhere"), depot

    monkeypatch.setattr(replicas, "shipped", elsewhere)
    with burnish.load(model, ray=cluster.address, replicas=3) as three:
        kept = list(files.own_folder().glob("*/*/model.onnx"))
        assert 1 <= len(kept) <= 2  # a copy for each node, not for each replica
        assert [port.name for port in three.get_outputs()]
    assert not list(files.own_folder().glob("*/*/model.onnx"))


def test_what_cannot_be_is_one_line(
    cluster: TwoNodes, stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = cluster.address
    with pytest.raises(UsageError, match="9 replicas need 9 processors, and the cluster has 4"):
        burnish.load(TAGGER, ray=address, replicas=9)
    with pytest.raises(UsageError, match="no replica"):
        burnish.load(TAGGER, ray=address, replicas=0)
    with pytest.raises(UsageError, match="a pipeline runs once"):
        burnish.load(stages, ray=address, replicas=2)
    with pytest.raises(UsageError, match="stages of a plan are run in Python"):
        on_ray.run_artifact(Request(str(stages)), {"images": []}, address)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidModel):
        burnish.load(tmp_path / "broken.onnx", ray=address)
    broken = tmp_path / "stages"
    shutil.copytree(stages, broken)
    told = json.loads((broken / MANIFEST).read_text())
    told["stages"][1]["ranks"] = []
    (broken / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(UnsupportedModel, match="a stage in ranks"):
        burnish.load(broken, ray=address)
    assert command("run", TAGGER, "--ray", address) == 2
    assert "a cluster is for data; try --data FILE" in capsys.readouterr().err


def test_texts_are_answered_as_here(cluster: TwoNodes) -> None:
    texts = (TAGGER.parent / "sentences.txt").read_text().splitlines() * 5
    asked = {"texts": texts, "images": [], "context": None, "classes": [], "language": None,
             "chat": False, "settings": {}}  # fmt: skip
    found = on_ray.run_artifact(Request(str(TAGGER)), asked, cluster.address)
    with unsupervised():
        here = driver.run_artifact(Request(str(TAGGER)), asked)
    assert found["inputs"] == here["inputs"] and found["notes"] == here["notes"]
    for mine, theirs in zip(found["answers"], here["answers"], strict=True):
        assert [item | {"score": 0} for item in mine] == [item | {"score": 0} for item in theirs]


def test_data_is_run_as_here(cluster: TwoNodes, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index, feed in enumerate(token_feeds(5)):
        np.savez(data / f"{index}.npz", **feed)
    request = Request(str(TAGGER), data=str(data), output=str(tmp_path / "out.npz"))
    with unsupervised():
        found = on_ray.run(request, cluster.address)
        here = driver.run(dataclasses.replace(request, output=None))
    assert found["runs"] == here["runs"] and found["feeds"] == here["feeds"]
    assert len(list(tmp_path.glob("out.*.npz"))) == 5


def test_arrays_are_packed_whatever_they_are_called() -> None:
    arrays = {"file": np.zeros((0, 2)), "a/b": np.arange(3), "names": np.array(True)}
    found = batches.unpacked(batches.packed(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_zoo_has_the_bytes_that_it_has_here(cluster: TwoNodes, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    tiny(models / "one.onnx")
    (models / "broken.onnx").write_bytes(b"no model")
    options = ("--no-measure", "--no-check", "-q")
    there, here = tmp_path / "there", tmp_path / "here"
    words = ("zoo", models, "-o", there, *options, "--ray", cluster.address)
    assert command(*words) == 1
    assert command("zoo", models, "-o", here, *options) == 1
    rows = [json.loads((folder / "zoo.json").read_text())["members"] for folder in (there, here)]
    for mine, theirs in zip(*rows, strict=True):
        for key in ("name", "status", "reason", "key", "files"):
            assert mine[key] == theirs[key]
    assert command(*words) == 1  # nothing is done again
    assert json.loads((there / "zoo.json").read_text())["known"] == 1


def test_nodes_of_a_zoo_are_alike(cluster: TwoNodes, tmp_path: Path) -> None:
    unseen = tmp_path / "gone"
    asked = cluster.address, driver.optimize, 0, None, unseen
    with (
        pytest.raises(UsageError, match="does not see the output folder"),
        zoo_cluster.power(*asked),
    ):
        pass


def test_no_cluster_answers() -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(UsageError, match="no Ray cluster answers at nonsense"):
        Connection("nonsense")
    with pytest.raises(BurnishError, match="provider none is not known"):
        burnish.load(TAGGER, ray="nonsense", provider="none")
