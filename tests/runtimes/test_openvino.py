"""OpenVINO as a runtime: what it reads, and that it gives the answers of ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import last_form, make_context, run_model
from onnx import TensorProto, helper, numpy_helper
from samples import encoder, parse

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.runtimes import openvino
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.openvino import Session
from burnish.runtimes.work import execute, start

HEADS, SIZE = 4, 8
WIDTH = HEADS * SIZE


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def saved(model: ir.Model | onnx.ModelProto, folder: Path) -> Path:
    message = ir.to_proto(model) if isinstance(model, ir.Model) else model
    path = folder / "model.onnx"
    onnx.save(message, path)
    return path


def both(model: ir.Model, feed: dict[str, Any], folder: Path) -> list[tuple[Any, Any]]:
    """Outputs in ONNX Runtime without optimizations, and in OpenVINO."""
    reference = run_model(model, [feed])[0]
    session = Session(saved(model, folder), threads=1)
    found = session.run(list(reference), feed)
    return list(zip(reference.values(), found, strict=True))


def sentences(sequence: int = 9) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    mask = np.ones((2, sequence), np.int64)
    mask[1, 4:] = 0
    return {
        "input_ids": random.integers(0, 48, (2, sequence)),
        "attention_mask": mask,
        "token_type_ids": np.zeros((2, sequence), np.int64),
    }


def test_an_encoder_gives_the_answers_of_onnxruntime_in_the_types_it_names(tmp_path: Path) -> None:
    """In float32, though OpenVINO prefers bfloat16 where the processor has it (error 1e-2)."""
    for mine, other in both(ir.from_proto(encoder()), sentences(), tmp_path):
        assert relative_l2(mine, other) < 1e-5


def test_int8_products_and_lookups_are_read(tmp_path: Path) -> None:
    model = ir.from_proto(encoder(width=128, vocabulary=512))
    # On processors without VNNI ONNX Runtime would saturate wider weights, and OpenVINO would not.
    assert DynamicInt8().apply(model, make_context(last_form, saturating=True)).rewrites
    for mine, other in both(model, sentences(), tmp_path):
        # What is rounded to 8 bits may fall on either side of a step.
        assert relative_l2(mine, other) < 2e-2


OPERATORS = {
    "RMSNormalization": ("RMSNormalization <axis = -1> (x, scale)", 23),
    "LayerNormalization": ("LayerNormalization <axis = -1> (x, scale, scale)", 17),
    "Gelu": ("Gelu (x)", 20),
    "tanh": ('Gelu <approximate = "tanh"> (x)', 20),
    "RotaryEmbedding": (f"RotaryEmbedding <num_heads = {HEADS}> (x, cos, cos)", 23),
    "interleaved": (f"RotaryEmbedding <num_heads = {HEADS}, interleaved = 1> (x, cos, cos)", 23),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_recovered_language_is_read(name: str, tmp_path: Path) -> None:
    call, opset = OPERATORS[name]
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : {opset}]>
        sample (float[batch, n, {WIDTH}] x, float[{WIDTH}] scale, float[batch, n, {SIZE // 2}] cos)
            => (float[batch, n, {WIDTH}] y) {{ y = {call} }}
    """)
    feed = {"x": normal(2, 5, WIDTH), "scale": normal(WIDTH), "cos": normal(2, 5, SIZE // 2)}
    for mine, other in both(model, feed, tmp_path):
        assert relative_l2(mine, other) < 1e-5


def aliases() -> onnx.ModelProto:
    """Outputs that are one value, which OpenVINO's compiled model calls by one name."""
    names = ("a", "z", "b", "r")
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        *(helper.make_node("Identity", ["r"], [name]) for name in names[:3]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in names]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "idle")]
    graph = helper.make_graph(nodes, "aliases", given, ports)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_ports_have_the_names_and_the_order_of_the_file(tmp_path: Path) -> None:
    session = Session(saved(aliases(), tmp_path))
    assert [port.name for port in session.get_inputs()] == ["x", "idle"]
    assert [port.name for port in session.get_outputs()] == ["a", "z", "b", "r"]
    feed = {"x": np.array([-1, 2], np.float32), "idle": np.zeros(2, np.float32)}
    assert [array.tolist() for array in session.run(None, feed)] == [[0, 2]] * 4
    assert len(session.run(["r", "a"], feed)) == 2
    session.close()
    session.close()


def test_what_a_run_gave_outlives_the_next_run(tmp_path: Path) -> None:
    session = Session(saved(aliases(), tmp_path))
    feed = {"x": np.ones(2, np.float32), "idle": np.zeros(2, np.float32)}
    first = session.run(["a"], feed)[0]
    session.run(["a"], {"x": feed["x"] * 5, "idle": feed["idle"]})
    assert first.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("names", "feed", "match"),
    [
        (None, {}, "idle is missing"),
        (None, {"x": 1, "idle": 1, "more": 1}, "more is missing, or no input"),
        (["none"], {"x": 1, "idle": 1}, "none is no output"),
    ],
)
def test_wrong_names_are_usage_errors(
    names: list[str] | None, feed: dict[str, int], match: str, tmp_path: Path
) -> None:
    session = Session(saved(aliases(), tmp_path))
    with pytest.raises(UsageError, match=match):
        session.run(names, {name: np.ones(2, np.float32) for name in feed})


def test_a_feed_of_another_type_is_refused_and_not_cast(tmp_path: Path) -> None:
    session = Session(saved(aliases(), tmp_path))
    with pytest.raises(RuntimeError) as found:
        session.run(None, {name: np.ones(2) for name in ("x", "idle")})
    assert "precision" in str(openvino.explain(found.value))


def test_an_operator_that_it_does_not_have_is_one_line(tmp_path: Path) -> None:
    port = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", port[:1], port[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedModel) as found:
        Session(saved(model, tmp_path))
    assert found.value.message.startswith("OpenVINO does not accept it: ")
    assert "Det" in found.value.message
    assert "\n" not in found.value.message
    assert ".cpp" not in found.value.message


def test_without_openvino_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match="did not start: OpenVINO") as found:
        openvino.library()
    assert found.value.hint == "pip install 'burnish[openvino]'"


def test_jobs_of_several_providers_in_one_child(tmp_path: Path) -> None:
    message = encoder()
    message.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unused"))
    path = saved(message, tmp_path)
    write_arrays(tmp_path / "feed", sentences())
    jobs = [
        {"path": path, "provider": name, "feeds": [[tmp_path / "feed"]], "results": tmp_path / name}
        for name in ("cpu", "openvino")
    ]
    reports = execute({"jobs": jobs, "threads": 1}, lambda event: None)["jobs"]
    assert reports == [{"error": "", "failed": {}, "fallen": []}] * 2
    mine, other = (read_arrays(tmp_path / name / "0") for name in ("cpu", "openvino"))
    assert list(mine) == list(other)
    assert all(relative_l2(mine[name], other[name]) < 1e-5 for name in mine)


def test_whether_a_provider_starts_is_tried(tmp_path: Path) -> None:
    argument = {"folder": str(tmp_path), "provider": "openvino"}
    assert start(argument, lambda event: None) == {}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError):
        patch.setitem(sys.modules, "openvino", None)
        start(argument, lambda event: None)
