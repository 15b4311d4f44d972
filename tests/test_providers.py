"""`--provider`: OpenVINO from the command line, and the choice of `auto`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import LIMITS
from onnx import TensorProto, helper
from samples import Builder, encoder
from test_cli import command, report_of, step

import burnish
from burnish.driver.election import compile_fastest
from burnish.driver.foreign import held
from burnish.driver.net import Net
from burnish.driver.request import Request
from burnish.driver.workbench import STOPWATCH
from burnish.optimizer.errors import UsageError
from burnish.optimizer.executor import Executor
from burnish.optimizer.fidelity import Fidelity, OutputFidelity
from burnish.optimizer.measure import Contest, Entrant, Timing
from burnish.optimizer.pipeline import Compiled
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.lower.attention.attention import LowerAttention

SHAPE = ("--shape", "batch=2,sequence=8")

NUMBER = {"type": ["number", "null"]}
PROVIDERS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "ms": NUMBER,
            "ratio": NUMBER,
            "ci95": {"type": ["array", "null"], "items": {"type": "number"}},
            "chosen": {"type": "boolean"},
            "reason": {"type": "string"},
        },
        "required": ["name", "version", "ms", "ratio", "ci95", "chosen", "reason"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(width=128, vocabulary=512), path)
    return path


@pytest.fixture
def without_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find a package of that name that is not there."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    text = 'raise ModuleNotFoundError("No module named \'openvino\'", name="openvino")\n'
    (folder / "openvino.py").write_text(text)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), known))))


def test_the_artifact_is_plain_onnx_that_both_runtimes_read(model: Path) -> None:
    report = report_of(model, "--provider", "openvino", "--int8", "--no-measure")
    assert report["target"]["provider"] == "openvino"
    assert "openvino" in report["target"]["versions"]
    assert report["providers"] == []
    assert step(report, "int8")["status"] == "kept"
    assert step(report, "attention")["status"] == "kept"
    path = report["output"]["path"]
    ids = np.random.default_rng(0).integers(0, 48, (2, 7))
    feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    mine = onnxruntime.InferenceSession(path).run(None, feed)
    other = burnish.load(path, provider="openvino").run(None, feed)
    for first, second in zip(mine, other, strict=True):
        # Rounding to 8 bits may fall on either side of a step.
        assert np.linalg.norm(first - second) < 0.03 * np.linalg.norm(first)


def test_measured_in_openvino_against_the_input_in_openvino(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(model, "--provider", "openvino", "-O1", *SHAPE) == 0
    printed = capsys.readouterr().out
    assert "nothing was changed" in printed or "threads, openvino:" in printed


@pytest.mark.usefixtures("without_openvino")
@pytest.mark.parametrize("words", [(), ("bench",), ("compare",)], ids=["main", "bench", "compare"])
def test_a_provider_that_is_not_installed_is_an_error_with_a_hint(
    words: tuple[str, ...], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = (model, model) if words == ("compare",) else (model,)
    assert command(*words, *models, "--provider", "openvino") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "OpenVINO is not installed; try pip install 'burnish[openvino]'" in lines[-1]
    assert sum(line.startswith("error:") for line in lines) == 1


def test_unknown_providers_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(model, "--provider", "abacus") == 2
    assert "cpu, cuda, tensorrt, openvino or auto" in capsys.readouterr().err
    assert command("bench", model, "--provider", "auto") == 2
    with pytest.raises(UsageError):
        burnish.load(model, provider="abacus")


def test_what_openvino_cannot_load_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path := tmp_path / "det.onnx")
    assert command(path, "--provider", "openvino", "-q") == 3
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: OpenVINO does not accept it: ")
    assert len(error.splitlines()) == 1


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A model whose integers do not fit into 32 bits, which is what OpenVINO computes them in."""
    b = Builder()
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.constant("large", 1 << 33, np.int64)
    b.op("Mul", ["input_ids", "large"], "products")
    b.op("Cast", ["products"], "y", to=TensorProto.FLOAT)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence"])
    b.normal("table", 48, 4)
    b.op("Gather", ["table", "input_ids"], "rows")
    b.output("rows", TensorProto.FLOAT, ["batch", "sequence", 4])
    onnx.save(b.message(), path := tmp_path / "wide.onnx")
    return path


def test_a_wrong_answer_in_openvino_is_told_and_fails(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(wide, "--provider", "openvino", "--no-measure") == 1
    told = capsys.readouterr()
    assert "in OpenVINO its answers are not those of the input (loss " in told.err
    assert "OpenVINO's own optimizations change the answers of the input model" in told.out
    assert command(wide, "--no-measure", "-q") == 0


@pytest.mark.parametrize(
    ("error", "lossy", "drop"),
    [(0.75, False, 0.75), (5e-3, False, 5e-3), (1e-4, False, 0.0), (0.1, True, 0.0)],
    ids=["scaled", "bfloat16", "rounded", "int8"],
)
def test_an_answer_that_keeps_its_direction_may_still_be_wrong(
    error: float, lossy: bool, drop: float
) -> None:
    promise = SimpleNamespace(promise=DynamicInt8.promise if lossy else LowerAttention.promise)
    step: Any = SimpleNamespace(status="kept", transform=promise)
    compiled = Compiled(ir.from_proto(encoder(layers=1)), (step,), ())
    # An index that changed between near ties is all or nothing, and not what is looked at.
    index = OutputFidelity(float("inf"), 1.0, 0.0, None, None)
    found = Fidelity({"y": OutputFidelity(error, 1.0, 1.0, None, None), "index": index})
    assert held(found, compiled).drop == drop


def test_compare_runs_the_other_model_on_the_provider(wide: Path, model: Path) -> None:
    words = ("--provider", "openvino", "--max-drop", 0.001, "-q")
    assert command("compare", wide, wide, *words) == 1
    assert command("compare", model, model, *words) == 0


def test_entrants_of_two_providers_are_timed_in_processes_of_their_own(
    model: Path, executor: Executor
) -> None:
    ids = np.ones((2, 8), np.int64)
    feed = executor.store([{"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0}])[0]
    entrants = {name: Entrant(model, feed, name) for name in ("cpu", "openvino")}
    with Contest(STOPWATCH, LIMITS, threads=1) as contest:
        found = contest.compare(entrants, 0.1, 0.01)
        pids = {worker.pid for worker in contest._workers.values()}
    assert len(pids) == 2
    assert found["openvino"].candidate_ms > 0


class Race:
    """Stands in for `Contest`: what each kind of entrant gains over the first is known."""

    def __init__(self, **gains: float) -> None:
        self.gains = {"artifact": 1.5} | gains
        self.races: list[list[str]] = []

    def compare(self, contest: Any, entrants: Mapping[str, Entrant], *_: Any) -> dict[str, Timing]:
        names = list(entrants)
        self.races.append(names)
        return {name: self._timing(self.gains.get(name, 0.5)) for name in names[1:]}

    @staticmethod
    def _timing(gain: float) -> Timing:
        return Timing(6.0, 6.0 / gain, gain, gain - 0.05, gain + 0.05, 7)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(Contest, "admit", lambda *_: None)
    yield monkeypatch


def elected(model: Path, patch: pytest.MonkeyPatch, race: Race, **options: Any) -> dict[str, Any]:
    """The report of `--provider auto`, compiled in this process."""
    patch.setattr(Contest, "compare", lambda *given: race.compare(*given))
    staging = model.with_name(f"staging-{len(list(model.parent.iterdir()))}")
    staging.mkdir()
    request = Request(
        str(model), provider="auto", level=1, shape={"batch": 2, "sequence": 8},
        tuning=str(model.with_name("tuning.json")), **options,
    )  # fmt: skip
    return compile_fastest(asdict(request) | {"staging": str(staging)}, lambda event: None)


def row(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in report["providers"] if item["name"] == name)


@pytest.mark.parametrize(
    ("gain", "winner", "int8"), [(2.0, "openvino", True), (1.02, "cpu", False)]
)
def test_auto_takes_what_is_surely_fastest_and_replays_it(
    gain: float, winner: str, int8: bool, model: Path, patch: pytest.MonkeyPatch
) -> None:
    race = Race(openvino=gain)
    report = elected(model, patch, race, int8=int8)
    jsonschema.validate(report["providers"], PROVIDERS)
    assert report["target"]["provider"] == winner
    assert [item["name"] for item in report["providers"] if item["chosen"]] == [winner]
    assert (row(report, "cpu")["ms"], row(report, "cpu")["ratio"]) == (6.0, 1.0)
    assert row(report, "openvino")["ratio"] == gain
    assert row(report, "openvino")["ms"] == round(6.0 / gain, 3)
    assert "did not start" in row(report, "cuda")["reason"]
    assert ["cpu", "openvino"] in race.races

    again = Race(openvino=1 / gain)
    replayed = elected(model, patch, again, int8=int8)
    jsonschema.validate(replayed["providers"], PROVIDERS)
    assert replayed["target"]["provider"] == winner
    assert ["cpu", "openvino"] not in again.races
    assert "tuning record" in row(replayed, winner)["reason"]
    assert replayed["output"]["sha256"] == report["output"]["sha256"]


def test_auto_keeps_no_provider_that_answers_wrongly(wide: Path, patch: pytest.MonkeyPatch) -> None:
    report = elected(wide, patch, Race(openvino=9.0))
    assert report["target"]["provider"] == "cpu"
    assert "its answers are not those of the input" in row(report, "openvino")["reason"]


@pytest.mark.usefixtures("without_openvino")
def test_auto_does_with_what_is_installed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = model.with_name("report.json")
    assert command(model, "--provider", "auto", "--no-measure", "--json", report) == 0
    facts = json.loads(report.read_text())
    jsonschema.validate(facts["providers"], PROVIDERS)
    assert facts["target"]["provider"] == "cpu"
    assert "not installed" in row(facts, "openvino")["reason"]
    printed = capsys.readouterr().out
    assert "(chosen)" in printed
    assert "OpenVINO is not installed" in printed


def test_unmeasured_auto_takes_the_reference_and_says_so(model: Path) -> None:
    report = report_of(model, "--provider", "auto", "--no-measure", "-O1", "--dry-run")
    assert report["target"]["provider"] == "cpu"
    assert any("nothing was measured" in text for text in report["warnings"])


def test_a_pass_whose_result_the_runtime_does_not_run_is_taken_back_with_its_reason() -> None:
    """As an OpenVINO does that is too old for an operator which a pass writes."""
    models = [encoder(layers=1) for _ in range(3)]
    kept = SimpleNamespace(status="kept")
    compiled: Any = Compiled(models[2], (kept, kept), (models[0], models[1]))  # type: ignore[arg-type]
    runs = {id(models[0]), id(models[1])}
    blamed: list[tuple[int, str]] = []

    def judged(compiled: Compiled) -> Any:
        good = Fidelity({"y": None}, 0.0, "")  # type: ignore[dict-item]
        bad = Fidelity({}, 1.0, "OpenVINO does not accept it: no RMSNormalization")
        return SimpleNamespace(
            compiled=compiled, fidelity=good if id(compiled.model) in runs else bad
        )

    def without(compiled: Compiled, index: int, reason: str) -> Any:
        blamed.append((index, reason))
        return Compiled(models[1], (kept,), (models[0],))  # type: ignore[arg-type]

    net = Net(models[0], judged, without, "OpenVINO", [])  # type: ignore[arg-type]
    net.sound(judged(compiled), 0.01)
    assert blamed == [(1, "OpenVINO does not accept it: no RMSNormalization")]
