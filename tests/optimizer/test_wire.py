"""Large weights stay in the file: stepped over on reading, put back on writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from burnish.optimizer import admission
from burnish.optimizer.errors import InvalidModel
from burnish.optimizer.model import initializers, load
from burnish.optimizer.saving import save
from burnish.optimizer.wire import LARGE, join, split

ROWS = LARGE // 4


def message(*rows: int) -> onnx.ModelProto:
    """Constants of the given lengths and what may stand around them in a file."""
    tensors = [
        numpy_helper.from_array(np.arange(count, dtype=np.float32) + index, f"w{index}")
        for index, count in enumerate(rows)
    ]
    nodes = [helper.make_node("Identity", [t.name], [f"y{i}"]) for i, t in enumerate(tensors)]
    ports = [
        helper.make_tensor_value_info(f"y{i}", onnx.TensorProto.FLOAT, [count])
        for i, count in enumerate(rows)
    ]
    graph = helper.make_graph(nodes, "g", [], ports, tensors, doc_string="of the graph")
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8, doc_string="of the model")
    helper.set_model_props(made, {"key": "value"})
    return made


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(rows=st.lists(st.sampled_from([0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS]), max_size=5))
def test_split_and_join_are_inverse(rows: list[int]) -> None:
    content = message(*rows).SerializeToString()
    light, places = split(content)
    assert sorted(places) == [index for index, count in enumerate(rows) if 4 * count >= LARGE]
    for index, place in places.items():
        data = np.frombuffer(content, np.float32, rows[index], place.offset)
        np.testing.assert_array_equal(data, np.arange(rows[index]) + index)
    tensors = {i: ir.tensor(np.arange(rows[i], dtype=np.float32) + i) for i in places}
    joined = onnx.ModelProto.FromString(b"".join(join(light, tensors)))
    assert joined == message(*rows)


def test_a_message_without_large_data_is_unchanged() -> None:
    content = message(1, 2).SerializeToString()
    assert split(content) == (content, {})


@pytest.mark.parametrize(
    "content", [b"\xff" * 12, b"\x00\x01", b"\x3a\x7f", b"\x3b", b"\x08\x80"], ids=repr
)
def test_what_is_no_message(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a number|a field|a group"):
        split(content)
    with pytest.raises(InvalidModel, match="not an ONNX file"):
        admission.parse(content)


def test_a_graph_in_two_parts_is_read_by_the_decoder() -> None:
    """Fields of a message may be written in several pieces, which are merged."""
    part = onnx.ModelProto()
    part.graph.initializer.append(numpy_helper.from_array(np.ones(ROWS, np.float32), "late"))
    merged, places = admission.parse(message(ROWS).SerializeToString() + part.SerializeToString())
    assert not places
    assert [tensor.name for tensor in merged.graph.initializer] == ["w0", "late"]


@pytest.mark.parametrize("missing", [1, -1])
def test_data_of_the_wrong_length_is_refused(tmp_path: Path, missing: int) -> None:
    made = message(ROWS + 8)
    made.graph.initializer[0].dims[0] += missing
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    with pytest.raises(InvalidModel, match="bytes of data where the shape needs"):
        load(path)


def test_weights_are_mapped_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(message(3, ROWS, 2 * ROWS), path)
    loaded = load(path)
    assert not loaded.external
    kinds = [type(value.const_value) for value in initializers(loaded.model)]
    assert kinds == [ir.TensorProtoTensor, ir.ExternalTensor, ir.ExternalTensor]
    assert save(loaded.model, tmp_path / "again.onnx", external=False) == (tmp_path / "again.onnx",)
    written = onnx.load(tmp_path / "again.onnx").graph
    assert list(written.initializer) == list(onnx.load(path).graph.initializer)
