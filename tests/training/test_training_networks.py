"""Exports of real architectures as networks, their streams, and students cut from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from exporting import export
from harness import made_up, run_model
from matrix.architectures import BY_NAME, built
from matrix.inputs import TRACED
from samples import encoder

from burnish.driver import recovery, student_cuts
from burnish.driver.request import Request
from burnish.driver.workbench import Workbench, open_model
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.stream import Stream, stream_of
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.errors import BurnishError, UnsupportedModel
from burnish.optimizer.layers import keep_layers, spread
from burnish.training.network import Network
from burnish.training.weights import trained_in

NAMES = {
    "bert": 2, "roberta": 2, "modernbert": 2, "gpt2": 2, "gpt-neox": 2, "llama": 2, "qwen3": 2,
    "opt": 2, "falcon": 2, "t5-encoder": 2, "vit": 2, "whisper-encoder": 2,
}  # fmt: skip
"""Architectures, with the layers that their streams have."""


def opened(path: Path) -> Workbench:
    with open_model(Request(str(path), check=False, measure=False), lambda event: None) as bench:
        return bench


def recovered(bench: Workbench) -> tuple[ir.Model, Stream]:
    model = recovery.recover(bench).model
    return model, stream_of(model, bench.slots, shapes.infer(model, bench.sizes()))


@pytest.mark.parametrize("name", NAMES)
def test_exports_compute_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    architecture, path = BY_NAME[name], tmp_path / "model.onnx"
    module = built(architecture, "sdpa")
    export(module, architecture.inputs(TRACED), path, "torchscript", 17)
    bench = opened(path)
    model, stream = recovered(bench)
    assert len(stream.layers) == NAMES[name]
    network = Network(model, trained_in(model))
    weights = sum(item.numel() for item in module.parameters())
    assert sum(item.numel() for item in network.weights) > 0.9 * weights
    original = ir.from_proto(onnx.load(path))
    feeds = made_up(original)[:3]
    for feed, wanted in zip(feeds, run_model(original, feeds), strict=True):
        given = network.answers(feed)
        assert max(relative_l2(wanted[key], given[key]) for key in wanted) < 1e-5


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    onnx.save(encoder(layers=3, heads=4), tmp_path / "model.onnx")
    return opened(tmp_path / "model.onnx")


def test_a_student_has_what_is_kept(bench: Workbench) -> None:
    teacher, _ = recovered(bench)
    before = ir.to_proto(teacher).SerializeToString()
    student = student_cuts.cut(bench, teacher, {"layers": 2, "heads": 2, "channels": 0.5})
    assert ir.to_proto(teacher).SerializeToString() == before
    found = stream_of(student, bench.slots, shapes.infer(student, bench.sizes()))
    assert len(found.layers) == 2
    heads = [node.attributes["q_num_heads"].value for row in found.layers for node in row]
    assert heads == [2, 2]
    assert [value.name for value in student.graph.outputs] == ["last_hidden_state", "logits"]
    for feed in made_up(bench.loaded.model):
        outputs = run_model(student, [feed])[0]
        assert outputs["last_hidden_state"].shape == (*feed["input_ids"].shape, 16)
        given = Network(student).answers(feed)
        assert relative_l2(outputs["logits"], given["logits"]) < 1e-5


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        ({"layers": 4}, "the teacher has 3 layers, not 4"),
        ({"heads": 5}, "a layer of the teacher has 4 heads, not 5"),
    ],
)
def test_what_a_teacher_does_not_have(bench: Workbench, kept: dict[str, int], line: str) -> None:
    with pytest.raises(BurnishError, match=line):
        student_cuts.cut(bench, recovered(bench)[0], kept)


def test_the_last_layer_that_is_an_output_keeps_its_name(bench: Workbench) -> None:
    model, stream = recovered(bench)
    keep_layers(model, stream, [0])
    assert [value.name for value in model.graph.outputs] == ["last_hidden_state", "logits"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_layers_with_caches_stay(tmp_path: Path) -> None:
    architecture, path = BY_NAME["llama-cached"], tmp_path / "model.onnx"
    module = built(architecture, "sdpa")
    export(module, architecture.inputs(TRACED), path, "torchscript", 17)
    model, stream = recovered(opened(path))
    with pytest.raises(UnsupportedModel, match="and so stays"):
        keep_layers(model, stream, [0])


def test_layers_are_spread_evenly() -> None:
    assert [spread(count, 12) for count in (1, 2, 4)] == [[0], [0, 11], [0, 4, 7, 11]]
    assert spread(12, 12) == list(range(12))


def test_masks_and_angles_are_not_trained(tmp_path: Path) -> None:
    architecture, path = BY_NAME["llama"], tmp_path / "model.onnx"
    module = built(architecture, "eager")
    export(module, architecture.inputs(TRACED), path, "torchscript", 17)
    model, _ = recovered(opened(path))
    for name in trained_in(model):
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        assert np.abs(tensor.numpy()).max() < 1e3
    sizes = sum(item.numel() for item in Network(model, trained_in(model)).weights)
    assert sizes == sum(item.numel() for item in module.parameters())
