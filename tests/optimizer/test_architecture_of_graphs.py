"""What kind of network a graph is, from what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from samples import Builder, encoder

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.architecture import architecture, headline
from burnish.optimizer.analysis.architecture.sources import CROSS, LEARNED, SELF, Sources
from burnish.optimizer.analysis.costs.parameters import parameters
from burnish.optimizer.analysis.costs.scaling import peak, scaling, told_at
from burnish.optimizer.analysis.costs.sight import sight_of
from burnish.optimizer.analysis.costs.work import Places, work
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.roles import slots

WIDTH, INNER, HEADS = 16, 48, 4


def decoder(layers: int = 3, window: int = 0) -> onnx.ModelProto:
    """Layers of RMSNormalization, rotated causal attention and SwiGLU, in recovered operators.

    With a window, all but the last see that many keys.
    """
    b = Builder()
    b.input("ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", 96, WIDTH)
    hidden = b.op("Gather", ["words", "ids"], "embedded")
    for table in ("cos", "sin"):
        b.normal(table, 512, WIDTH // HEADS // 2)
    b.op("Shape", ["ids"], "length", start=1, end=2)
    for name, number in (("zero", 0), ("one", 1)):
        b.constant(name, number, np.int64)
    b.constant("first", [0], np.int64)
    b.op("Squeeze", ["length", "first"], "count")
    b.op("Range", ["zero", "count", "one"], "places")
    b.op("Unsqueeze", ["places", "first"], "row")
    b.constant("second", [1], np.int64)
    b.op("Unsqueeze", ["places", "second"], "column")
    b.constant("width", window - 1, np.int64)
    b.op("Sub", ["column", "row"], "distance")
    b.op("LessOrEqual", ["distance", "width"], "near")
    b.op("GreaterOrEqual", ["distance", "zero"], "before")
    b.op("And", ["near", "before"], "window")
    b.op("Shape", ["ids"], "shape_of_ids")
    b.op("Expand", ["row", "shape_of_ids"], "positions")
    for layer in range(layers):
        masked = "window" if window and layer < layers - 1 else ""
        hidden = decoder_layer(b, f"l{layer}", hidden, masked)
    b.constant("last", np.ones(WIDTH))
    b.op("RMSNormalization", [hidden, "last"], "normed")
    b.normal("head", WIDTH, 96)
    b.op("MatMul", ["normed", "head"], "logits")
    b.output("logits", TensorProto.FLOAT, ["batch", "sequence", 96])
    message = b.message(23)
    message.ir_version = 11
    return message


def decoder_layer(b: Builder, name: str, hidden: str, mask: str) -> str:
    for gain in ("g1", "g2"):
        b.constant(f"{name}.{gain}", np.ones(WIDTH))
    b.op("RMSNormalization", [hidden, f"{name}.g1"], f"{name}.n1")
    for part in "qkv":
        b.normal(f"{name}.{part}.w", WIDTH, WIDTH)
        b.op("MatMul", [f"{name}.n1", f"{name}.{part}.w"], f"{name}.{part}")
    for part in "qk":
        operands = [f"{name}.{part}", "cos", "sin", "positions"]
        b.op("RotaryEmbedding", operands, f"{name}.{part}r", num_heads=HEADS)
    operands = [f"{name}.qr", f"{name}.kr", f"{name}.v", *filter(None, [mask])]
    causal = {} if mask else {"is_causal": 1}
    heads = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
    b.op("Attention", operands, f"{name}.mixed", **heads, **causal)
    b.normal(f"{name}.o.w", WIDTH, WIDTH)
    b.op("MatMul", [f"{name}.mixed", f"{name}.o.w"], f"{name}.o")
    b.op("Add", [hidden, f"{name}.o"], f"{name}.sum1")
    b.op("RMSNormalization", [f"{name}.sum1", f"{name}.g2"], f"{name}.n2")
    for part in ("gate", "up"):
        b.normal(f"{name}.{part}.w", WIDTH, INNER)
        b.op("MatMul", [f"{name}.n2", f"{name}.{part}.w"], f"{name}.{part}")
    b.op("Sigmoid", [f"{name}.gate"], f"{name}.s")
    b.op("Mul", [f"{name}.gate", f"{name}.s"], f"{name}.silu")
    b.op("Mul", [f"{name}.silu", f"{name}.up"], f"{name}.gated")
    b.normal(f"{name}.down.w", INNER, WIDTH)
    b.op("MatMul", [f"{name}.gated", f"{name}.down.w"], f"{name}.down")
    return b.op("Add", [f"{name}.sum1", f"{name}.down"], f"{name}.sum2")


def facts_of(message: onnx.ModelProto) -> dict[str, Any]:
    model = ir.from_proto(message)
    places = Places(model)
    known = shapes.infer(model, {"batch": 2, "sequence": 8})
    sources = Sources(places.flow, model.graph.inputs, slots(model))
    masks = Masks()
    attentions = [
        sight_of(node, known, masks).as_json()
        | {"layer": places.layer_of(node), "heads": HEADS, "kv_heads": HEADS, "head_size": 4}
        | {"source": sources.kind(node.inputs[0], node.inputs[1])}
        for node in model.graph
        if node.op_type == "Attention"
    ]
    return architecture(model, places, known, slots(model), attentions).as_json()


def renamed(message: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with names that mean nothing; inputs and outputs keep theirs."""
    kept = {value.name for value in (*message.graph.input, *message.graph.output)}
    names: dict[str, str] = {"": ""} | {name: name for name in kept}

    def new(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    for tensor in message.graph.initializer:
        tensor.name = new(tensor.name)
    for index, node in enumerate(message.graph.node):
        node.name = f"n{index}"
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    return message


def test_a_decoder_in_one_line() -> None:
    told = headline(facts_of(decoder()))
    assert told == (
        "decoder, 3 layers, 4 heads of 4, RoPE, SwiGLU, RMSNorm, hidden 16, feed-forward 48, "
        "vocabulary 96"
    )


def test_names_mean_nothing() -> None:
    assert facts_of(renamed(decoder())) == facts_of(decoder())


def test_windows_are_counted() -> None:
    facts = facts_of(decoder(window=3))
    assert facts["windows"] == ({"left": 2, "right": 0, "count": 2, "of": 3},)
    assert "2 of 3 local last 3 keys" in headline(facts)
    assert facts["kind"] == "decoder"


def test_an_encoder_knows_its_positions() -> None:
    model = ir.from_proto(encoder())
    places = Places(model)
    known = shapes.infer(model, {"batch": 2, "sequence": 8})
    facts = architecture(model, places, known, slots(model), []).as_json()
    assert (facts["limit"], facts["vocabulary"], facts["hidden"]) == (32, 48, (16,))
    assert list(facts["activations"]) == ["GELU"]
    assert facts["feed_forward"] == (32,)


def test_where_keys_come_from() -> None:
    b = Builder()
    b.input("ids", TensorProto.INT64, ["batch", "sequence"])
    b.input("states", TensorProto.FLOAT, ["batch", "length", 8])
    b.normal("words", 32, 8)
    b.normal("query", 1, 4, 8)
    b.op("Gather", ["words", "ids"], "x")
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    b.op("Attention", ["x", "x", "x"], "own", **heads)
    b.op("Attention", ["own", "states", "states"], "crossed", **heads)
    b.op("Attention", ["crossed", "crossed", "crossed"], "again", **heads)
    b.op("Shape", ["ids"], "size", start=0, end=1)
    b.constant("rest", [4, 8], np.int64)
    b.op("Concat", ["size", "rest"], "queries", axis=0)
    b.op("Expand", ["query", "queries"], "learned")
    b.op("Attention", ["learned", "again", "again"], "y", **heads)
    b.output("y", TensorProto.FLOAT, ["batch", 4, 8])
    model = b.model(23)
    sources = Sources(Places(model).flow, model.graph.inputs, slots(model))
    kinds = [
        sources.kind(node.inputs[0], node.inputs[1])
        for node in model.graph
        if node.op_type == "Attention"
    ]
    assert kinds == [SELF, CROSS, SELF, LEARNED]


def test_every_parameter_has_a_place() -> None:
    """The sum over layers is the whole; layers that are alike have as many each."""
    model = ir.from_proto(decoder())
    found = parameters(model, Places(model)).as_json()
    floats = sum(
        value.const_value.size
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT
    )
    rows = {row["layer"]: row for row in found["by_layer"]}
    layers = [{k: v for k, v in rows[n].items() if k != "layer"} for n in (1, 2, 3)]
    assert layers[0] == layers[1] == layers[2]
    assert layers[0]["projections"] == 4 * WIDTH * WIDTH
    assert layers[0]["feed_forward"] == 3 * WIDTH * INNER
    assert layers[0]["other"] == 2 * WIDTH
    assert rows[None] == {"layer": None, "other": WIDTH, "head": WIDTH * 96}
    assert rows[0] == {"layer": 0, "embeddings": 96 * WIDTH, "other": 2 * 512 * 2}
    assert sum(found["by_part"].values()) == floats
    assert found["largest"][0]["bytes"] == 4 * 96 * WIDTH


def scaled(message: onnx.ModelProto, limit: int = 0) -> tuple[ir.Model, Any]:
    model = ir.from_proto(message)

    def at(batch: int, length: int) -> Any:
        return shapes.infer(model, {"batch": batch, "sequence": length})

    return model, scaling(model, at, limit)


@pytest.mark.parametrize(("message", "limit"), [(encoder(), 32), (decoder(), 0)])
def test_work_is_a_law_of_batch_and_length(message: onnx.ModelProto, limit: int) -> None:
    """What the law says of sizes that it has not seen is what counting gives there."""
    model, found = scaled(message, limit)
    assert found.flops is not None
    for batch, length in ((3, 7), (5, 21)):
        known = shapes.infer(model, {"batch": batch, "sequence": length})
        counted = sum(work(model, known).by_operator.values())
        assert found.flops.at(batch, length) == pytest.approx(counted, rel=1e-6)


def test_memory_is_what_lives_at_the_same_time() -> None:
    """Two values of 4 columns beside the product's 8; a view takes nothing."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 4])
    b.normal("w", 4, 8)
    b.constant("flat", [0, 0, 4], np.int64)
    b.op("Tanh", ["x"], "t")
    b.op("Reshape", ["t", "flat"], "r")
    b.op("MatMul", ["r", "w"], "p")
    b.op("ReduceMean", ["p"], "y", axes=[2], keepdims=1)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 1])
    model, found = scaled(b.message())
    types = shapes.element_types(model)
    assert peak(model, found, types, 1, 10) == 4 * 10 * (4 + 8)
    assert peak(model, found, types, 3, 10) == 3 * 4 * 10 * (4 + 8)


def test_lengths_that_are_told() -> None:
    assert told_at(0, grows=False) == [(1, None), (8, None)]
    assert told_at(400, grows=True) == [(1, 128), (8, 128), (1, 400), (8, 400)]
    assert [length for _, length in told_at(0, grows=True)] == [128, 128, 512, 512, 4096, 32768]
