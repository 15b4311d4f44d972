"""Where the work of a run is."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from samples import Builder, encoder, parse

from burnish.optimizer.analysis.costs.work import layers, work
from burnish.optimizer.analysis.shapes import infer

BATCH, SEQUENCE, WIDTH = 2, 7, 16
TOKENS = BATCH * SEQUENCE
SIZES = {"batch": BATCH, "sequence": SEQUENCE}
PROJECTIONS = 2.0 * TOKENS * WIDTH * WIDTH * 4
MIXING = 4.0 * TOKENS * SEQUENCE * WIDTH
FEED_FORWARD = 2.0 * TOKENS * WIDTH * WIDTH * 4


def test_an_encoder(bert: ir.Model) -> None:
    found = work(bert, infer(bert, SIZES)).as_json()
    layer = {"projections": PROJECTIONS, "attention": MIXING, "feed_forward": FEED_FORWARD}
    assert found["by_layer"] == [{"layer": 1, **layer}, {"layer": 2, **layer}]
    assert found["head"] == 2.0 * BATCH * WIDTH * 3
    assert found["total"] == sum(found["by_operator"].values()) == sum(found["by_kind"].values())
    assert found["by_kind"]["attention"] == 2 * MIXING
    assert found["unknown"] == 0


def test_every_node_has_a_layer(bert: ir.Model) -> None:
    """Norms before an attention belong to the layer before it, the classifier to the head."""
    found = {node.outputs[0].name: layer for node, layer in layers(bert).items()}
    assert set(found) == {value.name for node in bert.graph for value in node.outputs}
    assert found["word_rows"] == 0
    named = {name: layer for name, layer in found.items() if name and name.startswith("layer")}
    for name, layer in named.items():
        number = int(name[len("layer")]) + 1
        assert layer == number or (layer is None and number == 2), name
    assert found["logits"] is None


def test_what_is_done_to_probabilities_is_of_their_layer() -> None:
    message = encoder()
    for node in [node for node in message.graph.node if node.op_type == "Softmax"]:
        name = node.output[0]
        node.output[0] = f"{name}.bare"
        place = list(message.graph.node).index(node) + 1
        guard = onnx.helper.make_node("Identity", [f"{name}.bare"], [name])
        message.graph.node.insert(place, guard)
    model = ir.from_proto(message)
    found = {node: layer for node, layer in layers(model).items() if node.op_type == "Identity"}
    assert [layer for node, layer in found.items() if node.inputs[0].name.endswith("bare")] == [
        1, 2,
    ]  # fmt: skip
    assert {layer for layer in layers(model).values() if layer} == {1, 2}


def test_the_feed_forward_work_of_one_token_shows() -> None:
    """The selection of the first token, moved before the last feed-forward part."""
    message = encoder()
    for node in message.graph.node:
        if node.name == "pooled/Gather":
            node.input[0] = "layer1.norm1"
            node.output[0] = "first_row"
    rename = {"layer1.norm1": "first_row", "pooled": "layer1.norm2"}
    for node in message.graph.node:
        if node.name.startswith(("layer1.up", "layer1.fed")) or node.name == "logits/Gemm":
            node.input[:] = [rename.get(name, name) for name in node.input]
    del message.graph.output[0]
    nodes = [node for node in message.graph.node if node.name != "last_hidden_state/Identity"]
    del message.graph.node[:]
    message.graph.node.extend(nodes)
    model = ir.from_proto(message)
    model.graph.sort()
    onnx.checker.check_model(ir.to_proto(model))
    first, second = work(model, infer(model, SIZES)).as_json()["by_layer"]
    assert first["feed_forward"] == FEED_FORWARD
    assert second["feed_forward"] == FEED_FORWARD / SEQUENCE
    assert second["projections"] == PROJECTIONS


def test_no_attention_at_all() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[5, 4] x) => (y) <float[4, 2] w = {1, 1, 1, 1, 1, 1, 1, 1}>
        { y = MatMul (x, w) }
    """)
    found = work(model, infer(model, {})).as_json()
    assert (found["by_layer"], found["head"]) == ([], 80.0)


def test_the_costlier_branch_counts() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (bool f, float[5, 4] x) => (y) <float[4, 2] w = {1, 1, 1, 1, 1, 1, 1, 1}>
        { y = If (f) <
            then_branch = t () => (a) { p = MatMul (x, w) q = Transpose (w) r = MatMul (p, q)
                a = MatMul (r, w) },
            else_branch = e () => (b) { b = MatMul (x, w) }
        > }
    """)
    assert work(model, infer(model, {})).as_json()["total"] == 3 * 80.0


def test_products_of_unknown_shape_are_told() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 4] x) => (y) <float[4, 2] w = {1, 1, 1, 1, 1, 1, 1, 1}>
        { y = MatMul (x, w) }
    """)
    found = work(model, infer(model, {})).as_json()
    assert (found["total"], found["unknown"]) == (0, 1)


@pytest.mark.parametrize("kept", ["Compress", "NonZero"])
def test_packed_tokens_count_as_many_as_there_may_be(kept: str) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 4])
    b.input("mask", TensorProto.BOOL, ["batch", "sequence"])
    b.constant("rows", [-1, 4], "int64")
    b.constant("flat", [-1], "int64")
    b.op("Reshape", ["x", "rows"], "tokens")
    b.op("Reshape", ["mask", "flat"], "alive")
    if kept == "Compress":
        b.op("Compress", ["tokens", "alive"], "packed", axis=0)
    else:
        b.op("NonZero", ["alive"], "places")
        b.op("Reshape", ["places", "flat"], "indices")
        b.op("Gather", ["tokens", "indices"], "packed")
    b.linear("packed", "y", 4, 3)
    b.output("y", TensorProto.FLOAT, ["tokens", 3])
    model = b.model()
    sizes = {"batch": 2, "sequence": 5}
    assert work(model, infer(model, sizes)).as_json()["unknown"] == 1
    found = work(model, infer(model, sizes, bounded=True)).as_json()
    assert (found["total"], found["unknown"]) == (2.0 * 10 * 4 * 3, 0)
