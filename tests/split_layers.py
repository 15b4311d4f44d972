"""Layers as exporters spell them, small, for tests of how they are split over ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper
from samples import Builder

FLOAT = TensorProto.FLOAT
WIDTH, HEADS, SIZE = 64, 4, 16


def builder() -> Builder:
    b = Builder()
    b.input("x", FLOAT, ["batch", "sequence", WIDTH])
    for name, value in (
        ("heads", [0, 0, HEADS, SIZE]), ("flat", [0, 0, HEADS * SIZE]),
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


def old_operator_set() -> onnx.ModelProto:
    """Sizes of pieces as attributes, and a softmax over all axes from one on."""
    b = builder()
    b.linear("x", "qkv", WIDTH, 3 * WIDTH)
    b.nodes.append(helper.make_node("Split", ["qkv"], ["q", "k", "v"], axis=-1, split=[64] * 3))
    queries, values = by_heads(b, "q"), by_heads(b, "v")
    b.op("MatMul", [queries, by_heads(b, "k", (0, 2, 3, 1))], "scores")
    b.op("Softmax", ["scores"], "probabilities", axis=3)
    b.op("MatMul", ["probabilities", values], "mixed")
    b.op("Transpose", ["mixed"], "back", perm=(0, 2, 1, 3))
    return finished(b, b.op("Reshape", ["back", "flat"], "joined"), 11)


LAYERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "plain": plain_attention,
    "merged": merged_by_split,
    "merged by heads": merged_by_heads,
    "operator set 11": old_operator_set,
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
