"""`--target`: what is compiled for other processors, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import made_up, run_model, unsupervised
from onnx import helper, numpy_helper
from samples import encoder

import burnish
from burnish import cli
from burnish.optimizer import measure, tuner
from burnish.optimizer.errors import BurnishError
from burnish.passes.compress.int8.saturation import can_saturate, product, saturates
from burnish.runtimes.targets import NATIVE, TARGETS, target_of


def encoder_in(folder: Path) -> Path:
    file = folder / "model.onnx"
    onnx.save(encoder(width=128, vocabulary=512), file)
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return encoder_in(tmp_path)


def compiled(path: Path, target: str, **options: Any) -> dict[str, Any]:
    with unsupervised():
        options = {"int8": True, "max_drop": 0.1, "target_cpu": target} | options
        return json.loads(json.dumps(burnish.optimize(path, **options).report))


@pytest.fixture(scope="module")
def for_avx2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(encoder_in(tmp_path_factory.mktemp("avx2")), "avx2")


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor at hand has VNNI."""
    monkeypatch.setattr(tuner, "processor", lambda: ("a processor", frozenset({"avx512_vnni"})))


def test_which_targets_saturate() -> None:
    found = {name: row.saturating for name, row in TARGETS.items()}
    assert found == {"avx2": True, "avx512": True, "avx512-vnni": False, "arm": False}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "fma"}, True),
        (set(), True),
        ({"avx2", "avx_vnni"}, False),
        ({"avx2", "amx_int8"}, False),
        ({"asimd", "asimddp"}, False),
    ],
)
def test_the_processor_at_hand(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool
) -> None:
    monkeypatch.setattr(tuner, "processor", lambda: ("a processor", frozenset(flags)))
    assert target_of(NATIVE).saturating == expected


def _with_operands(model: ir.Model) -> list[tuple[str, str, str, np.ndarray]]:
    """Let a model give the operands of its products of integers: names, and their weights."""
    found = []
    for index, node in enumerate(model.graph):
        if node.op_type == "MatMulInteger":
            given, weight, zero = node.inputs
            total = node.outputs[0]
            for value in (given, zero, total):
                value.name = value.name or f"observed_{index}"
                if value not in model.graph.outputs:
                    model.graph.outputs.append(value)
            found.append((given.name, zero.name, total.name, weight.const_value.numpy()))
    return found


def test_no_product_for_avx2_saturates(for_avx2: dict[str, Any]) -> None:
    """On the artifact's own activations, and on none that there could be."""
    model = ir.load(for_avx2["output"]["path"])
    products = _with_operands(model)
    assert len(products) >= 4
    for outputs in run_model(model, made_up(model)):
        for given, zero, total, weights in products:
            assert not can_saturate(weights).any()
            rows = outputs[given].reshape(-1, len(weights))
            narrow = product(rows, weights)
            narrow -= outputs[zero].astype(np.int32) * weights.sum(0, dtype=np.int32)
            np.testing.assert_array_equal(narrow, outputs[total].reshape(narrow.shape))


def test_the_report_names_the_target(for_avx2: dict[str, Any]) -> None:
    report = for_avx2
    assert (report["target"]["cpu"], report["target"]["saturates"]) == ("avx2", False)
    (warning,) = (text for text in report["warnings"] if "avx2" in text)
    assert warning.startswith("compiled for avx2 on another machine: forms were chosen by rules")
    metadata = onnx.load(report["output"]["path"]).metadata_props
    digests = [json.loads(item.value) for item in metadata if "burnish" in item.key]
    assert [digest["cpu"] for digest in digests] == ["avx2"]
    assert report["latency"] is None


def test_a_processor_with_vnni_gets_the_whole_range(path: Path, wide: None) -> None:
    report = compiled(path, NATIVE, measure=False)
    assert (report["target"]["cpu"], report["target"]["saturates"]) == (NATIVE, True)
    assert not any("another machine" in text for text in report["warnings"])
    assert saturates(ir.load(report["output"]["path"]))


def small(folder: Path, weight: np.ndarray) -> Path:
    """A product of integers, then one of floats."""
    floats = np.random.default_rng(0).standard_normal((64, 512), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["a", "w", "zero"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["float"], to=1),
            helper.make_node("MatMul", ["float", "v"], ["y"]),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", 1, ["batch", 64])],
        [helper.make_tensor_value_info("y", 1, ["batch", 512])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(floats, "v"),
        ],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(message, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("largest", [127, 64])
def test_a_model_that_was_quantized_before_is_looked_at_too(tmp_path: Path, largest: int) -> None:
    path = small(tmp_path, np.full((64, 64), largest, np.int8))
    assert compiled(path, "avx2", int8=False)["target"]["saturates"] == (largest == 127)


def test_nothing_is_measured_for_another_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[object] = []

    def note(*arguments: object, **_: object) -> None:
        times.append(arguments)
        raise BurnishError("timed")

    monkeypatch.setattr(measure.Contest, "compare", note)
    path = small(tmp_path, np.ones((64, 64), np.int8))
    assert compiled(path, "avx512")["latency"] is None
    assert not times
    with contextlib.suppress(BurnishError):
        compiled(path, NATIVE, tuning=str(tmp_path / "record.json"))
    assert times


def test_choices_of_another_machine_are_replayed(tmp_path: Path) -> None:
    """Measured there, with `--target native`, and taken here."""
    path, record = small(tmp_path, np.ones((64, 64), np.int8)), tmp_path / "record.json"
    key = "there, 2 threads, cpu, 1.31 | linear rows=8 k=64 n=512"
    for winner, status in (("fp32", "unchanged"), ("int8", "kept")):
        choice = {"winner": winner, "speedup": 2.0, "measured": True}
        record.write_text(json.dumps({key: choice}))
        report = compiled(path, "avx2", tuning=str(record))
        (step,) = (item for item in report["passes"] if item["name"] == "int8")
        assert step["status"] == status
        assert any("the tuning record, else by rules" in text for text in report["warnings"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--target", "sse9"], "target sse9 is not known"),
        (["--target", "avx2", "--provider", "openvino"], "is for --provider cpu, not openvino"),
        (["--target", "avx2", "--provider", "auto"], "is for --provider cpu, not auto"),
        (["--target", "arm", "--speedup", "1.5"], "--speedup needs times"),
        (["--target", "arm", "--precision", "auto"], "--precision auto needs times"),
    ],
)
def test_what_cannot_be_is_one_line(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["optimize", str(path), *options])
    with unsupervised(), pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert reason in line
