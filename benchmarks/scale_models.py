"""Graphs of models of published sizes, without their weights: for costs, not to be run.

Decoders as in Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024): 7B and 70B, the latter
with eight groups of keys and values; an encoder of 24 layers as BERT-large (Devlin et al. 2019).
Numbers are in bfloat16. A weight knows its sizes, and nothing ever asks for what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

OPSET = 23


@dataclass(frozen=True)
class Sizes:
    """A model's sizes, and those of a feed."""

    layers: int
    width: int
    heads: int
    groups: int
    hidden: int
    vocabulary: int
    gated: bool
    batch: int
    tokens: int


MODELS = {
    "7B decoder": Sizes(32, 4096, 32, 32, 11008, 32000, True, 1, 2048),
    "70B decoder": Sizes(80, 8192, 64, 8, 28672, 128256, True, 1, 2048),
    "24-layer encoder": Sizes(24, 1024, 16, 16, 4096, 30522, False, 32, 128),
}


class _Writer:
    """Adds nodes to a graph; every value is [batch, tokens, width]."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.nodes, self.weights, self.count = sizes, [], [], 0

    def op(self, kind: str, *inputs: ir.Value, **attributes: float) -> ir.Value:
        node = ir.node(kind, inputs, attributes or None)
        self.count += 1
        node.name = node.outputs[0].name = f"{kind}_{self.count}"
        self.nodes.append(node)
        return node.outputs[0]

    def weight(self, *shape: int) -> ir.Value:
        def never() -> ir.TensorProtocol:
            raise AssertionError("a weight was asked for what it holds")

        self.count += 1
        name, kind = f"weight_{self.count}", ir.DataType.BFLOAT16
        tensor = ir.LazyTensor(never, kind, ir.Shape(shape), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(shape), type=ir.TensorType(kind), const_value=tensor
        )
        self.weights.append(value)
        return value

    def norm(self, x: ir.Value) -> ir.Value:
        kind = "RMSNormalization" if self.sizes.gated else "LayerNormalization"
        return self.op(kind, x, self.weight(self.sizes.width))

    def layer(self, x: ir.Value) -> ir.Value:
        s = self.sizes
        shared = s.width // s.heads * s.groups
        y = self.norm(x)
        parts = [self.op("MatMul", y, self.weight(s.width, n)) for n in (s.width, shared, shared)]
        mixed = self.op(
            "Attention", *parts, q_num_heads=s.heads, kv_num_heads=s.groups, is_causal=int(s.gated)
        )
        x = self.op("Add", x, self.op("MatMul", mixed, self.weight(s.width, s.width)))
        y = self.norm(x)
        up = self.op("MatMul", y, self.weight(s.width, s.hidden))
        if s.gated:
            gate = self.op("MatMul", y, self.weight(s.width, s.hidden))
            up = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        else:
            up = self.op("Gelu", up)
        return self.op("Add", x, self.op("MatMul", up, self.weight(s.hidden, s.width)))


def graph(sizes: Sizes) -> ir.Model:
    """The model, from ids to logits of all tokens (of an encoder, to hidden states)."""
    writer = _Writer(sizes)
    ids = ir.Value(
        name="ids",
        shape=ir.Shape([sizes.batch, sizes.tokens]),
        type=ir.TensorType(ir.DataType.INT64),
    )
    x = writer.op("Gather", writer.weight(sizes.vocabulary, sizes.width), ids)
    for _ in range(sizes.layers):
        x = writer.layer(x)
    x = writer.norm(x)
    if sizes.gated:
        x = writer.op("MatMul", x, writer.weight(sizes.width, sizes.vocabulary))
    x.type = ir.TensorType(ir.DataType.BFLOAT16)
    made = ir.Graph(
        [ids], [x], nodes=writer.nodes, initializers=writer.weights, opset_imports={"": OPSET}
    )
    return ir.Model(made, ir_version=10)


def parameters(model: ir.Model) -> int:
    """How many there are."""
    return sum(int(np.prod(value.shape.numpy())) for value in model.graph.initializers.values())
