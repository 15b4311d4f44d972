"""The commands as a user gives them: what they print, write and answer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import LIMITS, unsupervised
from onnx import TensorProto, helper, numpy_helper
from samples import Builder, encoder

from burnish import cli
from burnish.driver import compilation
from burnish.driver.request import Request
from burnish.optimizer import tuner
from burnish.optimizer.contract import Outcome
from burnish.optimizer.verify import Checker, Verdict
from burnish.passes.recover.clean import Clean

TIMED = ("--shape", "batch=2,sequence=8")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(width=128, vocabulary=512), path)
    return path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs done in this process measure no longer than they must; nobody looks at the times."""
    monkeypatch.setattr(compilation, "TIMING_SECONDS", 0.0)
    monkeypatch.setattr(tuner, "SECONDS", 0.0)
    monkeypatch.setattr(tuner, "BLOCK_SECONDS", 0.001)


def command_here(*arguments: object) -> int:
    """As `command`, with the job done in this process."""
    with unsupervised():
        return command(*arguments)


def command(*arguments: object) -> int:
    """The exit code of `optimize` with these arguments."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["optimize", *map(str, arguments)])
        cli.main()
    return int(stop.value.code or 0)


def report_of(model: Path, *options: object, code: int = 0) -> dict:
    """The report of the main job, which is done in this process."""
    with unsupervised():
        return supervised_report_of(model, *options, code=code)


def supervised_report_of(model: Path, *options: object, code: int = 0) -> dict:
    report = model.with_name("report.json")
    assert command(model, "--quiet", "--json", report, *options) == code
    return json.loads(report.read_text())


def step(report: dict, name: str) -> dict:
    return next(item for item in report["passes"] if item["name"] == name)


def test_the_same_input_gives_the_same_bytes(model: Path) -> None:
    first, second = (model.with_name(f"{name}.onnx") for name in ("first", "second"))
    report_of(model, "--int8", "--no-measure", "-o", first)
    supervised_report_of(model, "--int8", "--no-measure", "-o", second)
    assert first.read_bytes() == second.read_bytes()


def test_padding_in_the_data_is_reported_and_left_out(model: Path) -> None:
    mask = np.repeat([[1, 1, 1, 1, 0, 0, 0, 0]], 3, axis=0)
    arrays = {"input_ids": mask + 5, "attention_mask": mask, "token_type_ids": mask * 0}
    np.savez(data := model.with_name("data.npz"), **arrays)
    plain = report_of(model, "--no-measure", "--data", data, "--dry-run")
    assert plain["padding"]["share"] == 0.5
    assert 0.3 < plain["padding"]["saved"] <= 0.5
    assert not plain["padding"]["packed"]
    assert "pack" not in [item["name"] for item in plain["passes"]]

    packed = report_of(model, "--pack", "--no-measure", "--data", data)
    assert step(packed, "pack")["status"] == "kept"
    assert packed["padding"] == plain["padding"] | {"packed": True}
    assert packed["fidelity"]["outputs"]["last_hidden_state"]["rel_l2"] < 1e-5
    session = onnxruntime.InferenceSession(packed["output"]["path"])
    assert (session.run(["last_hidden_state"], arrays)[0][:, 4:] == 0).all()


def test_packing_that_is_refused_says_why(model: Path) -> None:
    message = onnx.load(model)
    message.graph.node.append(helper.make_node("CumSum", ["last_hidden_state", "axis"], ["sums"]))
    message.graph.output.append(helper.make_tensor_value_info("sums", TensorProto.FLOAT, None))
    onnx.save(message, model)
    report = report_of(model, "--pack", "--no-measure")
    assert step(report, "pack")["status"] == "unchanged"
    assert any("padded rows reach CumSum" in warning for warning in report["warnings"])


def test_packing_rounds(model: Path) -> None:
    assert command(model, "--pack", "-O1", "-q") == 2


def test_a_dry_run_reports_and_writes_nothing(model: Path) -> None:
    before = sorted(model.parent.iterdir())
    report = report_of(model, "--int8", "--no-measure", "--dry-run")
    assert step(report, "int8")["rewrites"] > 0
    assert report["output"]["written"] is False
    assert sorted(model.parent.iterdir()) == sorted([*before, model.with_name("report.json")])


def test_schema_1(model: Path) -> None:
    report = supervised_report_of(model, "--int8", *TIMED)
    assert report["schema"] == 1
    assert set(report) == {
        "schema", "input", "target", "providers", "precisions", "signature", "ports", "passes",
        "recovered", "fidelity", "over_budget", "latency", "padding", "memory", "warnings",
        "output", "options", "operators", "attentions", "layers", "profile",
    }  # fmt: skip
    assert report["profile"] is None
    kept = [item["name"] for item in report["passes"] if item["status"] == "kept"]
    # On a busy machine so small a model may time as slower, and is then left as it was.
    assert (report["latency"] is None) == (not kept)
    if kept:
        low, high = report["latency"]["ci95"]
        assert 0 < low <= report["latency"]["speedup"] <= high
    assert report["memory"]["compile_peak_rss_bytes"] > 0
    assert {"rel_l2", "cosine", "max_abs"} <= set(report["fidelity"]["outputs"]["logits"])
    digest = {
        item.key: item.value
        for item in onnx.load(model.with_name("model.int8.onnx")).metadata_props
    }
    assert any("burnish" in key for key in digest)


COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
RECOVERED = {
    "type": "object",
    "properties": {
        "expected": COUNT,
        "found": COUNT,
        "missed": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": dict.fromkeys(("node", "nearest", "reason", "differs"), TEXT),
                "required": ["node", "nearest", "reason", "differs"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["expected", "found", "missed"],
    "additionalProperties": False,
}


def facts_of(model: Path, *options: object) -> dict:
    """What `inspect` tells as data."""
    report = model.with_name("facts.json")
    assert command("inspect", model, "--quiet", "--json", report, *options) == 0
    return json.loads(report.read_text())


def test_the_account_in_both_reports(model: Path) -> None:
    accounts = [
        report["recovered"]
        for report in (facts_of(model), report_of(model, "--no-measure", "--dry-run"))
    ]
    assert accounts[0] == accounts[1]
    assert list(accounts[0]) == ["attention", "normalization", "activation", "rotary", "linear"]
    for facts in accounts[0].values():
        jsonschema.validate(facts, RECOVERED)
        assert facts["expected"] == facts["found"] + len(facts["missed"])
    assert [facts["expected"] for facts in accounts[0].values()] == [2, 5, 2, 0, 13]


@pytest.mark.parametrize(
    "words", [("inspect", "{model}"), ("{model}", "--no-measure", "--dry-run")]
)
def test_the_account_in_words(
    model: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """One line of counts; the layers of a miss in one line."""
    assert command_here(*(word.format(model=model) for word in words)) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("recovered: "))
    assert "of 2 attentions, 5 of 5 normalizations, " in line
    assert "13 of 13 linear layers" in line
    assert "rotary" not in line
    facts = facts_of(model)["recovered"]
    reasons = sum(len({miss["reason"] for miss in kind["missed"]}) for kind in facts.values())
    assert sum(line.startswith("  missed ") for line in lines) <= reasons


def test_inspect_writes_nothing_and_tells_where_the_work_is(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    assert command("inspect", model, "--shape", "batch=2,sequence=8") == 0
    out = capsys.readouterr().out
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before
    assert "at batch 2, sequence 8 (linear " in out
    assert " parameters each, 4.26 MFLOP each\n" in out
    assert "─ projections: 65.54 k parameters, 2.10 MFLOP\n" in out
    assert "─ head: 384 parameters, " in out


def test_inspect_of_operators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Heads, sizes, scale and mask of attentions that are one operator; those alike in a line."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 32])
    heads = {"q_num_heads": 4, "kv_num_heads": 4, "is_causal": 1}
    b.op("Attention", ["x", "x", "x"], "first", **heads)
    b.op("Attention", ["first", "first", "first"], "second", **heads)
    b.op("Attention", ["second", "x", "x"], "y", q_num_heads=8, kv_num_heads=8, softcap=2.0)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 32])
    message = b.message(23)
    message.ir_version = 11
    onnx.save(message, tmp_path / "model.onnx")
    assert command("inspect", tmp_path / "model.onnx") == 0
    out = capsys.readouterr().out
    assert "recovered: 3 of 3 attentions\n" in out
    assert "  2 x Attention: 4 heads of 8, scale 0.353553, mask: causal\n" in out
    assert "  1 x Attention: 8 heads of 4, scale 0.5, softcap 2, mask: none\n" in out
    facts = facts_of(tmp_path / "model.onnx")
    assert [item["node"] for item in facts["attentions"]] == [
        "first/Attention", "second/Attention", "y/Attention",
    ]  # fmt: skip


def test_verbose_shows_every_refusal(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (model, "--int8", "--no-measure", "--dry-run")
    assert command_here(*arguments) == 0
    short = capsys.readouterr().out
    assert command_here(*arguments, "-v") == 0
    full = capsys.readouterr().out
    assert "-v shows them" not in full
    assert full.count("int8 left") >= short.count("int8 left")


def test_a_speedup_that_is_not_met_is_exit_1(
    model: Path, hasty: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_here(model, "--quiet", *TIMED, "--speedup", "1000") == 1
    assert "--speedup 1000 is not met" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--opset", 21), 0, ""),
        (("--opset", 13), 1, "--opset 13 is not met: it has 17, which can only be raised"),
        (("--opset", 12), 2, "operator set 12 cannot be written"),
        (("--min-ort", "1.12.1"), 0, ""),
        (("--min-ort", "1.11"), 1, "--min-ort 1.11 is not met: it needs ONNX Runtime 1.12"),
        (("--opset", 21, "--min-ort", "1.17"), 1, "it needs ONNX Runtime 1.18"),
        (("--min-ort", "new"), 2, "--min-ort new is not a release"),
    ],
)
def test_what_the_artifact_may_need(
    model: Path, capsys: pytest.CaptureFixture[str], options: tuple, code: int, said: str
) -> None:
    assert command_here(model, "--quiet", "--no-measure", *options) == code
    assert said in capsys.readouterr().err
    output = model.with_name("model.opt.onnx")
    assert output.exists() == (code != 2)
    if code == 0:
        opset = onnx.load(output).opset_import[0].version
        assert opset == (21 if "--opset" in options else 17)


@pytest.mark.parametrize(
    "words",
    [
        ("{model}", "--no-measure", "-q"),
        ("--no-measure", "-q", "{model}"),
        ("-q", "-o", "run", "--no-measure", "{model}"),
        ("--json", "bench", "--no-measure", "-q", "{model}"),
        ("model", "{model}", "--no-measure", "-q"),
        ("-q", "--no-measure", "--", "{model}"),
    ],
)
def test_the_main_job_needs_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    model = small(tmp_path / "model.onnx", 17, 8)
    monkeypatch.chdir(model.parent)
    assert command(*(word.format(model=model) for word in words)) == 0
    output = "run" if "-o" in words else "model.opt.onnx"
    assert (model.parent / output).exists()


@pytest.mark.parametrize("words", [("--help",), ("{model}", "--help"), ("model", "--help")])
def test_help(model: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert command(*(word.format(model=model) for word in words)) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "{model}"), "would overwrite"),
        (("--json", "missing/report.json"), "folder missing of the report does not exist"),
        (("--speedup", "2", "--no-measure"), "--speedup needs the times"),
        (("-o", "{model}"), "would overwrite the input"),
        (("-o", "missing/out.onnx"), "does not exist"),
        (("--time-limit", "inf"), "Invalid value"),
    ],
)
def test_what_is_refused_before_any_work(
    model: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    assert command(model, *(option.format(model=model) for option in options)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before


def test_a_data_file_of_the_input_is_no_output(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    message = encoder(width=128, vocabulary=512)
    onnx.save(message, path, save_as_external_data=True, location="weights.bin", size_threshold=9)
    before = (tmp_path / "weights.bin").read_bytes()
    assert command(path, "-q", "--no-measure", "-o", tmp_path / "weights.bin") == 2
    assert (tmp_path / "weights.bin").read_bytes() == before


def test_a_reader_that_leaves_early_is_no_failure(model: Path) -> None:
    program = [sys.executable, "-m", "burnish", "inspect", str(model)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_behind(model: Path, number: int, code: int) -> None:
    program = [sys.executable, "-m", "burnish", str(model), "--int8"]
    with subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests run in the background of a shell, interrupts are ignored, by heritage.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"checking the input\n"
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == code
    assert b"Traceback" not in rest
    assert [file.name for file in model.parent.iterdir()] == ["model.onnx"]


def test_a_missing_output_is_a_difference(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = onnx.load(model)
    del message.graph.output[1]
    onnx.save(message, other := model.with_name("other.onnx"))
    assert command("compare", model, other, "-q", "--max-drop", "0.5") == 1
    assert "output logits is missing" in capsys.readouterr().err


def compiled_here(**options: Any) -> dict:
    """A compilation in this process, where its parts can be replaced."""
    # What is free depends on what else runs: with too little, nothing would be checked.
    request = Request(measure=False, memory_limit=LIMITS.memory, **options)
    folder = request.target.parent / "staging"
    folder.mkdir()
    return compilation.compile_model(vars(request) | {"staging": str(folder)}, lambda event: None)


def replacing(old: set[str], new: str) -> Callable[..., Outcome]:
    def apply(self: Clean, graph: ir.Model, context: object) -> Outcome:
        next(node for node in graph.graph if node.op_type in old).op_type = new
        return Outcome(1)

    return apply


def test_no_check_still_looks_whether_the_result_is_legal(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that breaks the graph goes, numbers or not."""
    monkeypatch.setattr(Clean, "apply", replacing({"Softmax"}, "Softmix"))
    report = compiled_here(model=str(model), check=False)
    assert step(report, "clean")["status"] == "rejected"
    onnx.checker.check_model(report["output"]["path"])


def test_what_slips_through_the_single_checks_is_found_on_the_whole(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clean, "apply", replacing({"Gelu", "Erf"}, "Neg"))
    monkeypatch.setattr(Checker, "check", lambda *arguments: Verdict())
    report = compiled_here(model=str(model))
    assert step(report, "clean")["status"] == "rejected"
    assert "the answer of the whole model changes with it" in step(report, "clean")["reason"]
    assert step(report, "norm-form")["status"] == "kept"
    assert report["fidelity"]["drop"] < 1e-6


def test_the_tanh_formula_spends_the_budget(model: Path) -> None:
    report = report_of(model, "--no-measure", "--fast-gelu")
    assert step(report, "fast-gelu")["status"] == "kept"
    assert step(report, "fast-gelu")["promise"] == "lossy"
    assert 1e-5 < report["fidelity"]["outputs"]["last_hidden_state"]["rel_l2"] < 1e-2
    report = report_of(model, "--no-measure", "--fast-gelu", "--int8", "--max-drop", "0", code=1)
    for name in ("int8", "fast-gelu"):
        assert step(report, name)["status"] == "rejected"
        assert "where the budget is 0" in step(report, name)["reason"]
        assert any(f"{name} has no effect" in warning for warning in report["warnings"])


def test_fewer_positions_than_the_default_length(tmp_path: Path, hasty: None) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(width=128, vocabulary=512, positions=48), path)
    report = report_of(path, "--int8")
    assert any("sizes for timing are shorter" in warning for warning in report["warnings"])


def test_a_size_that_weights_fix_is_found(tmp_path: Path) -> None:
    """Pictures of 32 x 32, since there are positions for 16 patches; the ports do not say so."""
    b = Builder()
    b.input("pixels", TensorProto.FLOAT, ["batch", "channels", "height", "width"])
    b.normal("kernel", 16, 3, 8, 8)
    b.normal("places", 1, 16, 16)
    b.constant("flat", [0, 16, -1], np.int64)
    b.op("Conv", ["pixels", "kernel"], "patches", strides=[8, 8])
    b.op("Reshape", ["patches", "flat"], "rows")
    b.op("Add", ["rows", "places"], "placed")
    b.op("Identity", ["placed"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 16, 16])
    onnx.save(b.message(), tmp_path / "model.onnx")
    report = report_of(tmp_path / "model.onnx", "--no-measure")
    assert any("image 32 is used" in warning for warning in report["warnings"])
    assert report["output"]["nodes"] < report["input"]["nodes"]
    assert command("run", tmp_path / "model.onnx", "-q", "--shape", "height=32,width=32") == 0


@pytest.mark.parametrize("opset", [9, 17])
def test_the_longer_name_of_the_standard_domain(tmp_path: Path, opset: int) -> None:
    message = onnx.load(small(tmp_path / "model.onnx", opset, 512))
    message.opset_import[0].domain = "ai.onnx"
    message.graph.node[0].domain = "ai.onnx"
    onnx.save(message, tmp_path / "model.onnx")
    report = report_of(tmp_path / "model.onnx", "--int8", "--no-measure")
    assert step(report, "int8")["status"] == "kept"
    assert not [item for item in report["passes"] if item["status"] == "rejected"]


def test_force_takes_what_is_too_small_to_gain(model: Path) -> None:
    places = [
        step(report_of(model, "--int8", "--no-measure", *options), "int8")
        for options in ((), ("--force",))
    ]
    assert places[1]["rewrites"] > places[0]["rewrites"]
    assert any("too small" in item["reason"] for item in places[0]["refusals"])
    assert not any("too small" in item["reason"] for item in places[1]["refusals"])


def test_a_tuning_record_is_replayed(model: Path, hasty: None) -> None:
    record = model.with_name("record.json")
    report_of(model, "--int8", "--tuning", record, *TIMED)
    choices = json.loads(record.read_text())
    linear = [choice for key, choice in choices.items() if key.startswith("linear")]
    assert linear
    assert not any(" | " in key for key in choices), "a record holds for any machine"
    rewrites = {}
    for winner in ("fp32", "int8"):
        for choice in linear:
            choice["winner"] = winner
        record.write_text(json.dumps(choices))
        # Not measured, so that what decides is the record alone.
        replayed = report_of(model, "--int8", "--no-measure", "--tuning", record, *TIMED)
        rewrites[winner] = step(replayed, "int8")["rewrites"]
        assert json.loads(record.read_text()) == choices
    # The lookup of words is in int8 in any case: no measurement decides about it.
    assert rewrites["fp32"] == 1 < rewrites["int8"]


DATA = ("--data", "data.npz")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--int8", "--provider", "tensorrt"), "int8 for tensorrt fixes ranges of activations"),
        (
            ("--int8", "--static"),
            "--static fixes ranges of activations, which made-up inputs do not",
        ),
        (("--precision", "auto", "--static"), "--static fixes ranges of activations"),
        (("--static", *DATA), "--static fixes ranges of int8; try --int8 --static"),
        (("--int4", "--static", *DATA), "--static fixes ranges of int8"),
        (("--int8", "--static", "--no-check", *DATA), "--static needs the runs that --no-check"),
        (
            ("--int8", "--provider", "tensorrt", "--no-check", *DATA),
            "needs the runs that --no-check",
        ),
        (("--int8", "--static", "--provider", "cuda", *DATA), "int8 for cuda has none to fix"),
    ],
)
def test_ranges_that_nothing_is_known_of(
    model: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert command(model, "-q", *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not model.with_name("model.int8.onnx").exists()


def test_ranges_that_the_data_fixes(model: Path) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(0, 512, (2, 40, 12))
    data = model.with_name("data")
    data.mkdir()
    for index, part in enumerate(ids):
        feed = {"input_ids": part, "attention_mask": part * 0 + 1, "token_type_ids": part * 0}
        np.savez(data / f"{index}.npz", **feed)
    options = ("--int8", "--no-measure", "--data", data)
    fixed = report_of(model, *options, "--static")
    assert step(fixed, "int8")["status"] == "kept"
    assert step(fixed, "int8")["options"]["static"] is True
    assert "of fixed range" in step(fixed, "int8")["detail"]
    assert fixed["fidelity"]["drop"] <= 0.01
    assert fixed["target"]["fallen_back"] == []
    loaded = {node.op_type for node in onnx.load(fixed["output"]["path"]).graph.node}
    assert "QuantizeLinear" in loaded
    found = report_of(model, *options)
    assert "of fixed range" not in step(found, "int8")["detail"]
    # As the last resort there is a range for each token, also where ranges are fixed.
    tight = report_of(model, *options, "--static", "--max-drop", fixed["fidelity"]["drop"] / 3)
    assert step(tight, "int8")["options"]["finer"]
    assert tight["fidelity"]["drop"] < fixed["fidelity"]["drop"]


@pytest.mark.skipif(
    Path("/dev/nvidia0").exists(), reason="this is about machines where CUDA cannot start"
)
def test_cuda_that_cannot_start_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(model, "--quiet", "--provider", "cuda") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert "cuda" in error
    assert "--provider cpu" in error
    assert not model.with_name("model.opt.onnx").exists()


def small(path: Path, opset: int, width: int) -> Path:
    """One product of `width` columns, in the operator set given."""
    weight = np.random.default_rng(0).standard_normal((64, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(weight, "w")],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    message.ir_version = 6
    onnx.save(message, path)
    return path


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
def test_int8_of_an_old_operator_set(tmp_path: Path, level: str) -> None:
    path = small(tmp_path / "model.onnx", 9, 512)
    report = report_of(path, "--int8", "--no-measure", level)
    assert step(report, "raise-opset")["status"] == "kept"
    assert step(report, "int8")["status"] == "kept"
    session = onnxruntime.InferenceSession(path.with_name("model.int8.onnx"))
    assert session.run(None, {"x": np.ones((3, 64), np.float32)})[0].shape == (3, 512)


def test_int8_without_effect_says_why(tmp_path: Path) -> None:
    path = small(tmp_path / "model.onnx", 17, 8)
    report = report_of(path, "--int8", "--no-measure")
    assert step(report, "int8")["status"] == "unchanged"
    (warning,) = report["warnings"]
    assert warning.startswith("int8 has no effect: ")
    assert "too small to gain" in warning


def two_products(path: Path, factor: np.ndarray) -> Path:
    """A product that int8 keeps, and one of an activation that is multiplied by the factor."""
    random = np.random.default_rng(0)
    quiet = random.standard_normal((64, 512)).astype(np.float32)
    quiet[0] = 0
    weights = {
        "factor": factor.astype(np.float32),
        "w": random.standard_normal((64, 512)).astype(np.float32),
        "quiet": quiet,
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["sound"]),
            helper.make_node("Mul", ["x", "factor"], ["spiked"]),
            helper.make_node("Abs", ["spiked"], ["bent"]),  # nothing that smoothing looks at
            helper.make_node("MatMul", ["bent", "quiet"], ["broken"]),
        ],
        "spiked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 64])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 512])
            for name in ("sound", "broken")
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(message, path)
    return path


def test_a_place_that_int8_breaks_stays_in_float(tmp_path: Path) -> None:
    """One channel is so large that 8 bits of a shared scale leave nothing of the others."""
    spike = np.ones(64)
    spike[0] = 1e4
    report = report_of(two_products(tmp_path / "model.onnx", spike), "--int8", "--no-measure")
    assert (step(report, "int8")["status"], step(report, "int8")["rewrites"]) == ("kept", 1)
    (warning,) = report["warnings"]
    assert warning.startswith("float32 in 1 place, since int8 loses more than")
    assert "broken" in warning
    assert report["fidelity"]["outputs"]["broken"]["rel_l2"] < 1e-5
    assert 1e-4 < report["fidelity"]["outputs"]["sound"]["rel_l2"] < 0.05


def test_tokens_of_very_different_sizes_get_ranges_of_their_own(tmp_path: Path) -> None:
    sizes = np.geomspace(1, 1e6, 8)[:, None]
    report = report_of(two_products(tmp_path / "model.onnx", sizes), "--int8", "--no-measure")
    assert (step(report, "int8")["status"], step(report, "int8")["rewrites"]) == ("kept", 2)
    assert step(report, "int8")["options"]["finer"] == ["broken"]
    (warning,) = report["warnings"]
    assert warning.startswith("a range for each token in 1 place, since int8 loses more than")
    # Small elements of large tokens are compared by themselves, too.
    assert 1e-4 < report["fidelity"]["outputs"]["broken"]["rel_l2"] < 0.25


def test_a_budget_between_a_range_for_all_and_one_for_each_token(tmp_path: Path) -> None:
    """Ranges for each token are tried before any place stays in float."""
    path = two_products(tmp_path / "model.onnx", np.geomspace(1, 30, 8)[:, None])
    loose = report_of(path, "--int8", "--no-measure")
    assert step(loose, "int8")["options"]["finer"] == []
    budget = loose["fidelity"]["drop"] / 3
    tight = report_of(path, "--int8", "--no-measure", "--max-drop", str(budget))
    assert step(tight, "int8")["rewrites"] == 2
    # Its rows are of very different sizes; those of the other one are not.
    assert step(tight, "int8")["options"]["finer"] == ["broken"]
    assert step(tight, "int8")["options"]["keep"] == []
    assert tight["fidelity"]["drop"] <= budget
    assert any("a range for each token in 1 place" in item for item in tight["warnings"])


@pytest.mark.parametrize(
    ("flags", "suffix", "share"),
    [
        (("--int4",), "int4", 0.18),
        (("--precision", "int4"), "int4", 0.18),
        (("--precision", "int8-weights"), "int8-weights", 0.30),
    ],
)
def test_weights_in_blocks(
    tmp_path: Path, flags: tuple[str, ...], suffix: str, share: float
) -> None:
    path = small(tmp_path / "model.onnx", 17, 512)
    report = report_of(path, *flags, "--no-measure", "--max-drop", "0.1")
    assert report["output"]["path"].endswith(f"model.{suffix}.onnx")
    assert step(report, "weight-only")["status"] == "kept"
    assert report["output"]["bytes"] < share * report["input"]["bytes"] + 2000
    session = onnxruntime.InferenceSession(report["output"]["path"])
    assert session.run(None, {"x": np.ones((3, 64), np.float32)})[0].shape == (3, 512)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--int8", "--int4"), "int8 and int4 exclude each other"),
        (("--int8", "--precision", "int8-weights"), "int8 and int8-weights exclude each other"),
        (("--precision", "int3"), "--precision int3 is not known; try int8, int4, int8-weights"),
        (("--precision", "int8_weights"), "--precision int8_weights is not known"),
    ],
)
def test_precisions_that_do_not_go(
    model: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert command(model, "--quiet", *flags) == 2
    assert said in capsys.readouterr().err


def test_a_budget_that_int8_cannot_meet(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, the nearest is said, and what keeps to the budget is written."""
    report = report_of(model, "--int8", "--no-measure", "--max-drop", "1e-12", code=1)
    assert step(report, "int8")["status"] in ("rejected", "unchanged")
    assert "budget" in step(report, "int8")["reason"]
    assert any(warning.startswith("int8 has no effect") for warning in report["warnings"])
    assert all(facts["rel_l2"] < 1e-5 for facts in report["fidelity"]["outputs"].values())
    (over,) = report["over_budget"]
    assert over["name"] == "int8"
    assert "at the least that was tried" in over["reason"]
    assert "--max-drop is not met by int8: it loses" in capsys.readouterr().err
    assert model.with_name("model.int8.onnx").exists()
