"""Each way in which a layer is split: what is split, where ranks meet, errors against the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder
from onnx import TensorProto, helper
from sharding import error, split

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WIDTH, HEADS, SIZE = 64, 4, 16
RANDOM = np.random.default_rng(0)


def hidden(rows: int = 3, length: int = 5) -> dict[str, np.ndarray]:
    return {"x": RANDOM.standard_normal((rows, length, WIDTH)).astype(np.float32)}


def builder() -> Builder:
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    for name, value in (
        ("heads", [0, 0, HEADS, SIZE]), ("flat", [0, 0, HEADS * SIZE]), ("halves", [32, 32]),
    ):  # fmt: skip
        b.constant(name, value, np.int64)
    return b


def finished(b: Builder, value: str, opset: int = 17) -> onnx.ModelProto:
    b.linear(value, "out", HEADS * SIZE, WIDTH)
    b.output("out", FLOAT, ["batch", "sequence", WIDTH])
    message = b.message(opset)
    message.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return message


def by_heads(b: Builder, name: str, order: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    b.op("Reshape", [name, "heads"], f"{name}.apart")
    return b.op("Transpose", [f"{name}.apart"], f"{name}.turned", perm=order)


def mixed(b: Builder, queries: str, keys: str, values: str) -> str:
    """Attention in plain operators over [batch, heads, sequence, size], keys transposed."""
    b.op("MatMul", [queries, keys], "scores")
    b.op("Softmax", ["scores"], "probabilities", axis=-1)
    b.op("MatMul", ["probabilities", values], "mixed")
    b.op("Transpose", ["mixed"], "back", perm=(0, 2, 1, 3))
    return b.op("Reshape", ["back", "flat"], "joined")


def plain_attention() -> onnx.ModelProto:
    b = builder()
    for name in "qkv":
        b.linear("x", name, WIDTH, WIDTH)
    queries, values = by_heads(b, "q"), by_heads(b, "v")
    return finished(b, mixed(b, queries, by_heads(b, "k", (0, 2, 3, 1)), values))


def merged_by_split() -> onnx.ModelProto:
    b = builder()
    b.linear("x", "qkv", WIDTH, 3 * WIDTH)
    node = helper.make_node("Split", ["qkv"], ["q", "k", "v"], axis=-1)
    b.nodes.append(node)
    queries, values = by_heads(b, "q"), by_heads(b, "v")
    return finished(b, mixed(b, queries, by_heads(b, "k", (0, 2, 3, 1)), values))


def merged_by_heads() -> onnx.ModelProto:
    """As GPT-NeoX has it: queries, keys and values of a head beside each other."""
    b = builder()
    b.linear("x", "qkv", WIDTH, 3 * WIDTH)
    b.constant("threes", [0, 0, HEADS, 3, SIZE], np.int64)
    b.op("Reshape", ["qkv", "threes"], "apart")
    for index, name in enumerate("qkv"):
        b.constant(f"at{index}", index, np.int64)
        b.op("Gather", ["apart", f"at{index}"], f"{name}.of", axis=3)
    b.op("Transpose", ["q.of"], "q.turned", perm=(0, 2, 1, 3))
    b.op("Transpose", ["k.of"], "k.turned", perm=(0, 2, 3, 1))
    b.op("Transpose", ["v.of"], "v.turned", perm=(0, 2, 1, 3))
    return finished(b, mixed(b, "q.turned", "k.turned", "v.turned"))


def one_head_of_keys() -> onnx.ModelProto:
    """As Falcon has it: one merged weight, whose last two heads are the keys and the values."""
    b = builder()
    b.linear("x", "qkv", WIDTH, (HEADS + 2) * SIZE)
    b.constant("all", [0, 0, HEADS + 2, SIZE], np.int64)
    b.op("Reshape", ["qkv", "all"], "apart")
    for name, start, end in (("q", 0, HEADS), ("k", HEADS, HEADS + 1), ("v", -1, HEADS + 2)):
        for side, value in (("start", [start]), ("end", [end])):
            b.constant(f"{name}.{side}", value, np.int64)
    b.constant("axis", [2], np.int64)
    for name in "qkv":
        b.op("Slice", ["apart", f"{name}.start", f"{name}.end", "axis"], f"{name}.of")
    b.op("Transpose", ["q.of"], "q.turned", perm=(0, 2, 1, 3))
    b.op("Transpose", ["k.of"], "k.turned", perm=(0, 2, 3, 1))
    b.op("Transpose", ["v.of"], "v.turned", perm=(0, 2, 1, 3))
    return finished(b, mixed(b, "q.turned", "k.turned", "v.turned"))


def batches_of_heads() -> onnx.ModelProto:
    """As BLOOM has it: rows are batches times heads; ALiBi from a constant with a head axis."""
    b = builder()
    for name in "qkv":
        b.linear("x", name, WIDTH, WIDTH)
    b.op("Shape", ["x"], "sizes")
    for name, value in (("first", [0]), ("second", [1])):
        b.constant(name, value, np.int64)
        b.op("Gather", ["sizes", name], f"{name}.size", axis=0)
    b.constant("four", [HEADS], np.int64)
    b.constant("size", [SIZE], np.int64)
    b.op("Mul", ["first.size", "four"], "rows")
    b.op("Concat", ["rows", "second.size", "size"], "merged", axis=0)
    b.op("Concat", ["rows", "size", "second.size"], "merged.keys", axis=0)
    b.op("Concat", ["first.size", "four", "second.size", "second.size"], "scores.by", axis=0)
    b.op("Concat", ["rows", "second.size", "second.size"], "scores.rows", axis=0)
    b.op("Concat", ["first.size", "four", "second.size", "size"], "parted", axis=0)
    b.op("Reshape", [by_heads(b, "q"), "merged"], "q.rows")
    b.op("Reshape", [by_heads(b, "k", (0, 2, 3, 1)), "merged.keys"], "k.rows")
    b.op("Reshape", [by_heads(b, "v"), "merged"], "v.rows")
    b.op("MatMul", ["q.rows", "k.rows"], "products")
    b.op("Reshape", ["products", "scores.by"], "by")
    b.normal("slopes", 1, HEADS, 1, 1)
    b.op("Add", ["by", "slopes"], "biased")
    b.op("Softmax", ["biased"], "soft", axis=-1)
    b.op("Reshape", ["soft", "scores.rows"], "soft.rows")
    b.op("MatMul", ["soft.rows", "v.rows"], "mixed.rows")
    b.op("Reshape", ["mixed.rows", "parted"], "mixed")
    b.op("Transpose", ["mixed"], "back", perm=(0, 2, 1, 3))
    b.op("Reshape", ["back", "flat"], "joined")
    return finished(b, "joined")


def gated(merged: bool) -> onnx.ModelProto:
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    if merged:
        b.linear("x", "both", WIDTH, 2 * WIDTH)
        b.nodes.append(helper.make_node("Split", ["both"], ["gate", "up"], axis=-1))
    else:
        b.linear("x", "gate", WIDTH, WIDTH)
        b.linear("x", "up", WIDTH, WIDTH)
    b.op("Sigmoid", ["gate"], "opened")
    b.op("Mul", ["gate", "opened"], "silu")
    return finished(b, b.op("Mul", ["silu", "up"], "gated"))


def standard_operator(flat: bool) -> onnx.ModelProto:
    """`Attention` of operator set 23 with rotations, and heads that share keys."""
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    b.linear("x", "q", WIDTH, HEADS * SIZE)
    for name in "kv":
        b.linear("x", name, WIDTH, 2 * SIZE)
    b.normal("mask", 1, HEADS, 1, 1)
    b.normal("cos", 64, SIZE // 2)
    b.normal("sin", 64, SIZE // 2)
    b.op("Shape", ["x"], "sizes")
    b.constant("zero", 0, np.int64)
    b.constant("one", 1, np.int64)
    b.op("Gather", ["sizes", "one"], "length", axis=0)
    b.op("Range", ["zero", "length", "one"], "range")
    b.constant("front", [0], np.int64)
    b.op("Gather", ["sizes", "front"], "rows", axis=0)
    b.op("Unsqueeze", ["length", "front"], "lengths")
    b.op("Concat", ["rows", "lengths"], "grid", axis=0)
    b.op("Expand", ["range", "grid"], "positions")
    b.constant("heads", [0, 0, HEADS, SIZE], np.int64)
    b.constant("pair", [0, 0, 2, SIZE], np.int64)
    names, more = ["q", "k", "v"], {"q_num_heads": HEADS, "kv_num_heads": 2}
    if flat:
        b.op("RotaryEmbedding", ["q", "cos", "sin", "positions"], "q.turned", num_heads=HEADS)
        names[0] = "q.turned"
    else:
        more = {}
        for index, name in enumerate(names):
            b.op("Reshape", [name, "pair" if index else "heads"], f"{name}.apart")
            names[index] = b.op("Transpose", [f"{name}.apart"], f"{name}.by", perm=(0, 2, 1, 3))
        b.op("RotaryEmbedding", ["q.by", "cos", "sin", "positions"], "q.turned")
        names[0] = "q.turned"
    # A mask is as long as queries and keys are: ONNX Runtime does not broadcast it.
    b.op("Unsqueeze", ["lengths", "front"], "unused")
    b.constant("ones", [1], np.int64)
    b.constant("count", [HEADS], np.int64)
    b.op("Concat", ["ones", "count", "lengths", "lengths"], "mask.shape", axis=0)
    b.op("Expand", ["mask", "mask.shape"], "mask.full")
    value = b.op("Attention", [*names, "mask.full"], "mixed", **more)
    if not flat:
        b.constant("flat", [0, 0, HEADS * SIZE], np.int64)
        b.op("Transpose", ["mixed"], "back", perm=(0, 2, 1, 3))
        value = b.op("Reshape", ["back", "flat"], "joined")
    return finished(b, value, 23)


def group_query(packed: bool) -> onnx.ModelProto:
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    names = ["q", "k", "v"]
    if packed:
        b.linear("x", "q", WIDTH, (HEADS + 4) * SIZE)
        names = ["q", "", ""]
    else:
        b.linear("x", "q", WIDTH, HEADS * SIZE)
        for name in "kv":
            b.linear("x", name, WIDTH, 2 * SIZE)
    b.op("Shape", ["x"], "sizes")
    b.constant("front", [0], np.int64)
    b.constant("at", 1, np.int64)
    b.constant("one", [1], np.int32)
    b.op("Gather", ["sizes", "front"], "rows", axis=0)
    b.op("Gather", ["sizes", "at"], "length", axis=0)
    b.op("Cast", ["length"], "total", to=TensorProto.INT32)
    b.op("Sub", ["total", "one"], "last")
    b.op("Expand", ["last", "rows"], "lasts")
    b.op(
        "GroupQueryAttention", [*names, "", "", "lasts", "total"], "mixed",
        num_heads=HEADS, kv_num_heads=2, domain="com.microsoft",
    )  # fmt: skip
    return finished(b, "mixed")


def multi_head() -> onnx.ModelProto:
    b = builder()
    for name in "qkv":
        b.linear("x", name, WIDTH, WIDTH)
    b.normal("bias", 3 * WIDTH)
    b.op(
        "MultiHeadAttention", ["q", "k", "v", "bias"], "mixed",
        num_heads=HEADS, domain="com.microsoft",
    )  # fmt: skip
    return finished(b, "mixed")


def projecting() -> onnx.ModelProto:
    b = builder()
    b.normal("weight", WIDTH, 3 * WIDTH, scale=0.2)
    b.normal("bias", 3 * WIDTH)
    b.op("Attention", ["x", "weight", "bias"], "mixed", num_heads=HEADS, domain="com.microsoft")
    return finished(b, "mixed")


LAYERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "plain": plain_attention,
    "merged": merged_by_split,
    "merged by heads": merged_by_heads,
    "one head of keys": one_head_of_keys,
    "batches of heads": batches_of_heads,
    "gated": lambda: gated(False),
    "gated, merged": lambda: gated(True),
    "Attention": lambda: standard_operator(False),
    "Attention, flat": lambda: standard_operator(True),
    "GroupQueryAttention": lambda: group_query(False),
    "GroupQueryAttention, packed": lambda: group_query(True),
    "MultiHeadAttention": multi_head,
    "Attention with weights": projecting,
}


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
