"""Each way in which a layer is split, against the whole: what is split, and where ranks meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from samples import Builder
from sharding import error, split
from split_layers import LAYERS, WIDTH, by_heads, mixed

from burnish.optimizer.analysis import shapes
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.model import load
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, Device
from burnish.optimizer.partition.planner import plan
from burnish.optimizer.partition.shards import shard
from burnish.optimizer.partition.shards.manifest import files, stage_row
from burnish.optimizer.partition.stages import manifest, stage_models
from burnish.optimizer.saving import save
from burnish.runtimes.tensor_parallel import open_shards

TAGGER = Path(__file__).parents[3] / "examples" / "tagger" / "model.onnx"

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(0)


def hidden(rows: int = 3, length: int = 5) -> dict[str, np.ndarray]:
    return {"x": RANDOM.standard_normal((rows, length, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_split_with_one_sum(layer: str, ranks: int, tmp_path: Path) -> None:
    message = LAYERS[layer]()
    sharding = split(message, ranks)
    assert len(sharding.reduced) == 1 and not sharding.gathered, sharding.choice.whole
    assert not sharding.choice.whole
    assert sharding.weights < sharding.whole * (0.65 if ranks == 2 else 0.5)
    assert error(message, sharding, tmp_path, hidden()) < 1e-5


def all_experts() -> onnx.ModelProto:
    """Every expert on every token, and a weighted sum: batches of weights."""
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    b.linear("x", "gate", WIDTH, 4)
    b.op("Softmax", ["gate"], "weights", axis=-1)
    b.constant("last", [-1], np.int64)
    b.op("Unsqueeze", ["weights", "last"], "weight")
    b.constant("second", [2], np.int64)
    b.op("Unsqueeze", ["x", "second"], "rows")
    b.constant("third", [3], np.int64)
    b.op("Unsqueeze", ["rows", "third"], "each")
    b.normal("up", 4, WIDTH, 64, scale=0.2)
    b.normal("down", 4, 64, WIDTH, scale=0.2)
    b.op("MatMul", ["each", "up"], "raised")
    b.op("Relu", ["raised"], "active")
    b.op("MatMul", ["active", "down"], "lowered")
    b.op("Squeeze", ["lowered", "third"], "results")
    b.op("Mul", ["results", "weight"], "weighted")
    b.op("ReduceSum", ["weighted", "second"], "out", keepdims=0)
    b.output("out", FLOAT, ["batch", "sequence", WIDTH])
    return b.message()


def loop_of_experts() -> onnx.ModelProto:
    """Each expert on the tokens that chose it, added where they came from."""
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    b.constant("flat", [-1, WIDTH], np.int64)
    b.op("Reshape", ["x", "flat"], "tokens")
    b.linear("tokens", "gate", WIDTH, 4)
    b.op("ArgMax", ["gate"], "chosen", axis=-1, keepdims=0)
    b.op("Shape", ["tokens"], "sizes")
    b.op("ConstantOfShape", ["sizes"], "sum.0")
    b.constant("first", [0], np.int64)
    b.constant("last", [-1], np.int64)
    for expert in range(4):
        b.constant(f"number.{expert}", expert, np.int64)
        b.op("Equal", ["chosen", f"number.{expert}"], f"mine.{expert}")
        b.op("NonZero", [f"mine.{expert}"], f"found.{expert}")
        b.op("Squeeze", [f"found.{expert}", "first"], f"places.{expert}")
        b.op("Gather", ["tokens", f"places.{expert}"], f"rows.{expert}", axis=0)
        b.linear(f"rows.{expert}", f"up.{expert}", WIDTH, 64)
        b.op("Relu", [f"up.{expert}"], f"active.{expert}")
        b.normal(f"down.{expert}", 64, WIDTH, scale=0.2)
        b.op("MatMul", [f"active.{expert}", f"down.{expert}"], f"result.{expert}")
        b.op("Unsqueeze", [f"places.{expert}", "last"], f"index.{expert}")
        node = helper.make_node(
            "ScatterND", [f"sum.{expert}", f"index.{expert}", f"result.{expert}"],
            [f"sum.{expert + 1}"], reduction="add",
        )  # fmt: skip
        b.nodes.append(node)
    b.op("Shape", ["x"], "shape")
    b.op("Reshape", ["sum.4", "shape"], "out")
    b.output("out", FLOAT, ["batch", "sequence", WIDTH])
    return b.message()


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("experts", [all_experts, loop_of_experts])
def test_experts_are_added_up_once(
    experts: Callable[[], onnx.ModelProto], ranks: int, tmp_path: Path
) -> None:
    message = experts()
    sharding = split(message, ranks)
    assert len(sharding.reduced) == 1 and not sharding.gathered
    assert sharding.weights < sharding.whole * (1 / ranks + 0.05)
    assert error(message, sharding, tmp_path, hidden()) < 1e-5


def test_ranks_have_experts_of_their_own() -> None:
    sharding = split(all_experts(), 4)
    (part, *_), *_ = (sharding.parts(rank) for rank in range(4))
    shapes = {tuple(value.const_value.shape) for value in part.model.graph.initializers.values()}
    assert (1, WIDTH, 64) in shapes and (1, 64, WIDTH) in shapes


def beside_each_other() -> onnx.ModelProto:
    """Attention's and the feed-forward's result are added, as in Falcon; both have a bias."""
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    for name in ("first", "second"):
        b.linear("x", f"{name}.up", WIDTH, 128)
        b.op("Relu", [f"{name}.up"], f"{name}.active")
        b.linear(f"{name}.active", name, 128, WIDTH)
    b.op("Add", ["first", "second"], "both")
    b.op("Add", ["both", "x"], "out")
    b.output("out", FLOAT, ["batch", "sequence", WIDTH])
    return b.message()


def test_what_stands_side_by_side_is_added_up_once(tmp_path: Path) -> None:
    message = beside_each_other()
    sharding = split(message, 2)
    assert list(sharding.reduced) == ["both"]
    assert error(message, sharding, tmp_path, hidden()) < 1e-5


def heads_that_do_not_divide() -> onnx.ModelProto:
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    b.constant("heads", [0, 0, 3, 32], np.int64)
    b.constant("flat", [0, 0, 96], np.int64)
    for name in "qkv":
        b.linear("x", name, WIDTH, 96)
    queries, values = by_heads(b, "q"), by_heads(b, "v")
    b.linear(mixed(b, queries, by_heads(b, "k", (0, 2, 3, 1)), values), "out", 96, WIDTH)
    b.output("out", FLOAT, ["batch", "sequence", WIDTH])
    return b.message()


def test_heads_that_do_not_divide_are_spread_unevenly(tmp_path: Path) -> None:
    message = heads_that_do_not_divide()
    sharding = split(message, 2)
    found = {tuple(p.mask.sum(axis=1)) for layout in sharding.choice.flow.gives.values()
             for _, p in layout.axes}  # fmt: skip
    assert (2, 1) in found and (64, 32) in found and len(sharding.reduced) == 1
    assert error(message, sharding, tmp_path, hidden()) < 1e-5


def test_fewer_heads_than_ranks_are_said_to_be(tmp_path: Path) -> None:
    message = heads_that_do_not_divide()
    sharding = split(message, 4)
    assert "3 units of 32 for 4 ranks" in "".join(sharding.choice.refused.values())
    assert error(message, sharding, tmp_path, hidden()) < 1e-5


def test_a_table_and_a_head_that_share_a_weight(tmp_path: Path) -> None:
    b = Builder()
    b.input("ids", INT64, ["batch", "sequence"])
    b.normal("words", 40001, 32)
    b.op("Gather", ["words", "ids"], "x", axis=0)
    b.op("Relu", ["x"], "active")
    b.op("Transpose", ["words"], "head", perm=(1, 0))
    b.op("MatMul", ["active", "head"], "logits")
    b.output("logits", FLOAT, ["batch", "sequence", 40001])
    message = b.message()
    sharding = split(message, 2, {"batch": 8, "sequence": 32})
    assert list(sharding.reduced) == ["x"] and list(sharding.ports) == ["logits"]
    assert sharding.weights == 20001 * 32 * 4  # a half of the words, stored once
    feed = {"ids": RANDOM.integers(-40001, 40001, (2, 7))}
    assert error(message, sharding, tmp_path, feed) < 1e-5


def test_stages_are_split_by_themselves(tmp_path: Path) -> None:
    """Each of two stages over two ranks, one folder, run one after the other."""
    model = load(TAGGER).model
    shapes.annotate(model)
    chain = Chain(model, shapes.infer(model, {"batch": 8, "sequence": 128}, bounded=True))
    two = Cluster((Device("a", 1e9, 1e9), Device("b", 1e9, 1e9)))
    rows = []
    for index, stage in enumerate(stage_models(model, chain, plan(chain, two))):
        sharding = shard(stage.model, {"batch": 8, "sequence": 128}, 2)
        assert sharding.reduced
        parts = [sharding.parts(rank) for rank in range(2)]
        for name, part in files(parts, index):
            save(part, tmp_path / name, external=False)
        rows.append(stage_row(sharding, parts, ["a:0", "a:1"], index))
    (tmp_path / MANIFEST).write_text(json.dumps(manifest(model, rows, "test")))
    feed = {"input_ids": np.arange(14).reshape(2, 7) + 3, "attention_mask": np.ones((2, 7), int)}
    (whole,) = onnxruntime.InferenceSession(TAGGER).run(None, feed)
    with open_shards(tmp_path, workers="threads") as runtime:
        np.testing.assert_allclose(runtime.run(None, feed)[0], whole, atol=1e-5)
