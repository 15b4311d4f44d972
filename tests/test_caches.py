"""`--kv-cache int8`: ports that change, what the report says of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from harness import unsupervised
from onnx import TensorProto
from samples import Builder

import burnish
from burnish.driver.request import Request, validate
from burnish.optimizer import roles
from burnish.optimizer.caches import INTEGERS
from burnish.optimizer.errors import UsageError
from burnish.optimizer.model import load

HEADS, SIZE, WORDS = 2, 8, 40
CACHES = ("past_key", "past_value")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """One layer of a decoder without positions, with its caches."""
    b = Builder()
    width = HEADS * SIZE
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    for name in CACHES:
        b.input(name, TensorProto.FLOAT, ["batch", HEADS, "past", SIZE])
    b.normal("table", WORDS, width)
    b.op("Gather", ["table", "input_ids"], "x")
    b.constant("apart", [0, 0, HEADS, SIZE], np.int64)
    b.constant("together", [0, 0, width], np.int64)
    for name in ("q", "k", "v"):
        b.linear("x", name, width, width)
        b.op("Reshape", [name, "apart"], f"{name}s")
        b.op("Transpose", [f"{name}s"], f"{name}t", perm=[0, 2, 1, 3])
    for name, past in zip(("k", "v"), CACHES, strict=True):
        b.op("Concat", [past, f"{name}t"], past.replace("past", "present"), axis=2)
    b.op("Transpose", ["present_key"], "keys", perm=[0, 1, 3, 2])
    b.op("MatMul", ["qt", "keys"], "scores")
    b.op("Mul", ["scores", b.constant("factor", SIZE**-0.5)], "scaled")
    b.op("Softmax", ["scaled"], "weights", axis=-1)
    b.op("MatMul", ["weights", "present_value"], "mixed")
    b.op("Transpose", ["mixed"], "turned", perm=[0, 2, 1, 3])
    b.op("Reshape", ["turned", "together"], "merged")
    b.linear("merged", "logits", width, WORDS)
    b.output("logits", TensorProto.FLOAT, ["batch", "sequence", WORDS])
    for name in ("present_key", "present_value"):
        b.output(name, TensorProto.FLOAT, ["batch", HEADS, "all", SIZE])
    onnx.save(b.message(17), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Runs of many tokens, without a past as in the first one, and with one."""
    random, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    past = dict.fromkeys(CACHES, np.zeros((4, HEADS, 0, SIZE), np.float32))
    for index in range(4):
        feed = {"input_ids": random.integers(0, WORDS, (4, 24)), **past}
        np.savez(folder / f"{index}.npz", **feed)  # type: ignore[arg-type]
        past = dict(zip(CACHES, session.run(None, feed)[1:], strict=True))
    return folder


def compiled(path: Path, data: Path, **options: Any) -> dict[str, Any]:
    settings = {"kv_cache": "int8", "data": str(data), "measure": False} | options
    with unsupervised():
        report = burnish.optimize(path, **settings).report
    return json.loads(json.dumps(report))


def decoded(path: Path, kind: type[np.generic]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The scores of a text that is read token by token, and the last caches."""
    session = onnxruntime.InferenceSession(path)
    past = dict.fromkeys(CACHES, np.zeros((1, HEADS, 0, SIZE), kind))
    scores = []
    for token in np.random.default_rng(5).integers(0, WORDS, 30):
        found = session.run(None, {"input_ids": np.array([[token]]), **past})
        scores.append(found[0][0, 0])
        past = dict(zip(CACHES, found[1:], strict=True))
    return np.array(scores), list(past.values())


def test_ports_are_integers_and_a_text_is_decoded(path: Path, data: Path) -> None:
    report = compiled(path, data)
    target = Path(report["output"]["path"])
    assert report["ports"] == [
        {"name": name, "from": "FLOAT", "to": "INT8"}
        for name in ("past_key", "present_key", "past_value", "present_value")
    ]
    changed = {port.name: port.dtype for port in (*load(target).model.graph.inputs,)}
    assert [name for name, kind in changed.items() if kind is INTEGERS] == list(CACHES)
    outputs = report["fidelity"]["outputs"]
    assert set(outputs) == {"logits", "present_key", "present_value"}
    assert 1e-4 < outputs["present_key"]["rel_l2"] < 0.02
    exact, caches = decoded(path, np.float32)
    found, integers = decoded(target, np.int8)
    assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.02
    assert sum(item.nbytes for item in integers) * 4 == sum(item.nbytes for item in caches)
    assert (found.argmax(-1) == exact.argmax(-1)).mean() > 0.9


def test_an_artifact_is_a_model_like_another(path: Path, data: Path) -> None:
    """Values are made up for its caches, it is timed beside the input, and rewritten again."""
    target = Path(compiled(path, data)["output"]["path"])
    kinds = {slot.port.name: slot.role for slot in roles.slots(load(target).model)}
    assert all(kinds[name] is roles.Role.PAST for name in CACHES)
    with unsupervised():
        again = burnish.optimize(target, measure=False, output=str(path.with_name("again.onnx")))
        timed = burnish.driver.bench(Request(str(path)), [str(target)])
    assert again.report["ports"] == []
    assert len(timed["latency"]) == 1


def test_what_costs_too_much_stays(path: Path, data: Path) -> None:
    """The budget spares caches like any other place; ports are then as they were."""
    report = compiled(path, data, max_drop=1e-9)
    assert report["ports"] == []
    assert report["over_budget"][0]["name"] == "kv-cache"
    model = load(Path(report["output"]["path"])).model
    assert not [port.name for port in model.graph.inputs if port.dtype is INTEGERS]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--kv-cache int8 needs --data: the range of each channel is what"),
        ({"data": "x.npz", "check": False}, "--kv-cache int8 needs the runs of the model that"),
        ({"data": "x.npz", "kv_cache": "int3"}, "--kv-cache int3 is not known"),
    ],
)
def test_what_does_not_go_together(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        validate(Request(str(path), **({"kv_cache": "int8"} | options)))


def test_a_model_without_caches(tmp_path: Path) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", 8])
    b.linear("x", "y", 8, 8)
    b.output("y", TensorProto.FLOAT, ["batch", 8])
    onnx.save(b.message(17), path := tmp_path / "plain.onnx")
    np.savez(data := tmp_path / "data.npz", x=np.ones((3, 8), np.float32))
    report = compiled(path, data)
    assert "kv-cache has no effect: there is no cache" in report["warnings"]
