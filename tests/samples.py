"""Small models of the shapes that exporters produce, with predictable value names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

LOWEST = np.float32(np.finfo(np.float32).min)


class Builder:
    """Collects nodes and weights; every value is called by its name."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.random = np.random.default_rng(seed)

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, name: str, value: Any, dtype: type = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def normal(self, name: str, *shape: int, scale: float = 1.0) -> str:
        return self.constant(name, self.random.standard_normal(shape) * scale)

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attributes)
        self.nodes.append(node)
        return output

    def linear(self, x: str, name: str, width: int, out: int) -> str:
        self.normal(f"{name}.weight", width, out, scale=1.5 / np.sqrt(width))
        self.normal(f"{name}.bias", out, scale=0.3)
        self.op("MatMul", [x, f"{name}.weight"], f"{name}.product")
        return self.op("Add", [f"{name}.product", f"{name}.bias"], name)

    def norm(self, x: str, name: str, width: int) -> str:
        self.constant(f"{name}.gamma", 1 + 0.2 * self.random.standard_normal(width))
        self.normal(f"{name}.beta", width, scale=0.2)
        return self.op(
            "LayerNormalization", [x, f"{name}.gamma", f"{name}.beta"], name, epsilon=1e-12
        )

    def message(self, opset: int = 17, **metadata: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "sample", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        helper.set_model_props(model, metadata)
        return model

    def model(self, opset: int = 17, **metadata: str) -> ir.Model:
        return ir.from_proto(self.message(opset, **metadata))


def encoder(
    layers: int = 2, width: int = 16, heads: int = 2, vocabulary: int = 48, positions: int = 32
) -> onnx.ModelProto:
    """A BERT: embeddings, masked attention, LayerNormalization, Gelu; batch and sequence free.

    Its outputs are `last_hidden_state` and `logits` of three classes.
    """
    b = Builder()
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        b.input(name, TensorProto.INT64, ["batch", "sequence"])
    hidden = _embeddings(b, width, vocabulary, positions)
    mask = _mask(b)
    b.constant("split", [0, 0, heads, width // heads], np.int64)
    b.constant("join", [0, 0, width], np.int64)
    b.constant("scale", np.sqrt(width / heads))
    for name, value in (("sqrt2", np.sqrt(2)), ("one", 1.0), ("half", 0.5)):
        b.constant(name, value)
    for layer in range(layers):
        hidden = _layer(b, f"layer{layer}", hidden, mask, width)
    b.op("Identity", [hidden], "last_hidden_state")
    b.constant("first", 0, np.int64)
    b.op("Gather", [hidden, "first"], "pooled", axis=1)
    b.normal("classes.weight", 3, width)
    b.normal("classes.bias", 3)
    b.op("Gemm", ["pooled", "classes.weight", "classes.bias"], "logits", transB=1)
    b.output("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", width])
    b.output("logits", TensorProto.FLOAT, ["batch", 3])
    return b.message(labels="no,maybe,yes")


def _embeddings(b: Builder, width: int, vocabulary: int, positions: int) -> str:
    b.normal("words", vocabulary, width)
    b.normal("types", 2, width)
    b.normal("places", positions, width)
    b.constant("position_ids", [range(positions)], np.int64)
    b.constant("start", [0], np.int64)
    b.constant("axis", [1], np.int64)
    b.op("Shape", ["input_ids"], "size", start=1, end=2)
    b.op("Slice", ["position_ids", "start", "size", "axis"], "positions")
    b.op("Gather", ["words", "input_ids"], "word_rows")
    b.op("Gather", ["types", "token_type_ids"], "type_rows")
    b.op("Gather", ["places", "positions"], "place_rows")
    b.op("Add", ["word_rows", "type_rows"], "typed_rows")
    b.op("Add", ["typed_rows", "place_rows"], "rows")
    return b.norm("rows", "embedded", width)


def _mask(b: Builder) -> str:
    b.constant("mask_axes", [1, 2], np.int64)
    b.constant("mask_one", 1.0)
    b.constant("lowest", LOWEST)
    b.op("Unsqueeze", ["attention_mask", "mask_axes"], "mask4d")
    b.op("Cast", ["mask4d"], "mask_number", to=TensorProto.FLOAT)
    b.op("Sub", ["mask_one", "mask_number"], "hidden_keys")
    return b.op("Mul", ["hidden_keys", "lowest"], "mask")


def _layer(b: Builder, name: str, hidden: str, mask: str, width: int) -> str:
    for part in "qkv":
        b.linear(hidden, f"{name}.{part}", width, width)
        b.op("Reshape", [f"{name}.{part}", "split"], f"{name}.{part}4d")
        permutation = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        b.op("Transpose", [f"{name}.{part}4d"], f"{name}.{part}_heads", perm=permutation)
    b.op("MatMul", [f"{name}.q_heads", f"{name}.k_heads"], f"{name}.products")
    b.op("Div", [f"{name}.products", "scale"], f"{name}.scores")
    b.op("Add", [f"{name}.scores", mask], f"{name}.masked")
    b.op("Softmax", [f"{name}.masked"], f"{name}.probabilities", axis=-1)
    b.op("MatMul", [f"{name}.probabilities", f"{name}.v_heads"], f"{name}.mixed")
    b.op("Transpose", [f"{name}.mixed"], f"{name}.mixed4d", perm=[0, 2, 1, 3])
    b.op("Reshape", [f"{name}.mixed4d", "join"], f"{name}.joined")
    b.linear(f"{name}.joined", f"{name}.out", width, width)
    b.op("Add", [f"{name}.out", hidden], f"{name}.attended")
    normed = b.norm(f"{name}.attended", f"{name}.norm1", width)
    b.linear(normed, f"{name}.up", width, 2 * width)
    gelu = gelu_of(b, f"{name}.up", f"{name}.gelu")
    b.linear(gelu, f"{name}.down", 2 * width, width)
    b.op("Add", [f"{name}.down", normed], f"{name}.fed")
    return b.norm(f"{name}.fed", f"{name}.norm2", width)


def gelu_of(b: Builder, x: str, name: str) -> str:
    """x * (1 + erf(x / sqrt 2)) / 2, as exporters write it."""
    b.op("Div", [x, "sqrt2"], f"{name}.scaled")
    b.op("Erf", [f"{name}.scaled"], f"{name}.erf")
    b.op("Add", [f"{name}.erf", "one"], f"{name}.raised")
    b.op("Mul", [x, f"{name}.raised"], f"{name}.twice")
    return b.op("Mul", [f"{name}.twice", "half"], name)


def parse(text: str) -> ir.Model:
    """A model from ONNX's text form."""
    return ir.from_proto(onnx.parser.parse_model(text))


def branches() -> ir.Model:
    """A product of `x` [n, 2] in one branch of an `If`, and no product in the other."""
    return parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        branches (bool go, float[n, 2] x) => (float[n, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}>
        {
          y = If (go) <
            then_branch = one () => (float[n, 2] a) { a = MatMul (x, w) },
            else_branch = two () => (float[n, 2] b) { b = Tanh (x) }>
        }
    """)
