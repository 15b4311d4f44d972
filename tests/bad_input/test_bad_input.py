from __future__ import annotations

import collections
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import corpus
import forking
import numpy as np
import onnxruntime
import pytest
import runner
from runner import Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-input.md"

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def case_names() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [case.id for case in corpus.build(Path(folder))]


every_case = pytest.mark.parametrize("name", case_names())


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    root = tmp_path_factory.mktemp("bad-input")
    cases = corpus.build(root / "files")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=forking.prepare) as pool:
        done = pool.map(partial(runner.run, out=root / "out"), cases)
        return {result.case.id: result for result in done}


@every_case
def test_exit_code(results: dict[str, Result], name: str) -> None:
    result = results[name]
    assert result.code in corpus.EXPECTED[result.case.category].codes, result.stderr


@every_case
def test_ends_in_time(results: dict[str, Result], name: str) -> None:
    result = results[name]
    assert result.seconds < corpus.EXPECTED[result.case.category].seconds


@every_case
def test_prints_clean_text(results: dict[str, Result], name: str) -> None:
    printed = results[name].printed
    assert b"Traceback" not in printed
    assert b"internal error" not in printed
    assert all(character == "\n" or character.isprintable() for character in printed.decode())


@every_case
def test_fails_in_one_line_and_leaves_nothing(results: dict[str, Result], name: str) -> None:
    result = results[name]
    lines = result.stderr.decode().splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    if result.code == 0:
        assert not errors
        assert "out.onnx" in result.left
        assert all(file == "out.onnx" or file.endswith(".data") for file in result.left)
    else:
        assert errors == lines[-1:]
        assert len(errors[0]) <= 400
        assert result.left == ()


@every_case
def test_input_is_unchanged(results: dict[str, Result], name: str) -> None:
    assert not results[name].changed


@every_case
def test_converted_model_runs(results: dict[str, Result], name: str) -> None:
    result = results[name]
    if result.code != 0:
        return
    expected, actual = outputs(result.case.path), outputs(result.output)
    assert [array.shape for array in expected] == [array.shape for array in actual]
    assert [array.dtype for array in expected] == [array.dtype for array in actual]


def outputs(path: Path) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = str(path) if str(path).isprintable() else path.read_bytes()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {
        port.name: np.ones(
            [size if isinstance(size, int) else 2 for size in port.shape], TYPES[port.type]
        )
        for port in session.get_inputs()
    }
    return [np.asarray(array) for array in session.run(None, feeds)]


def test_document_lists_every_category() -> None:
    assert corpus.documentation() in DOCUMENT.read_text()


def test_summary(results: dict[str, Result], capsys: pytest.CaptureFixture[str]) -> None:
    codes: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for result in results.values():
        codes[result.case.category][result.code] += 1
    converted = sum(counts[0] for counts in codes.values())
    with capsys.disabled():
        print("\n")
        for category, counts in codes.items():
            listed = ", ".join(f"{count} exit {code}" for code, count in sorted(counts.items()))
            print(f"  {category:18} {sum(counts.values()):3} files: {listed}")
        refused = len(results) - converted
        print(f"bad input: {len(results)} files, {refused} refused, {converted} converted")
    assert len(results) >= 160
