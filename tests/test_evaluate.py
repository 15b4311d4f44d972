"""`optimize evaluate` as a user gives it, and answers as data."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import onnx
import pytest
from harness import unsupervised
from onnx import numpy_helper
from rich.console import Console

from burnish import cli, driver
from burnish.driver.answering import answered
from burnish.driver.evaluation import evaluate_artifacts
from burnish.optimizer.errors import UsageError
from burnish.rendering.answers import render_answers

TAGGER = Path(__file__).parents[1] / "examples" / "tagger"
SENTENCES = {
    "en": [("Angela B-PER", "Merkel I-PER", "visited O", "Paris B-LOC", ". O")],
    "de": [("Die O", "Deutsche B-ORG", "Bahn I-ORG", "baut O"), ("in O", "Stuttgart B-LOC")],
}


def command(*arguments: object) -> int:
    """The exit code of `optimize` with these arguments; the work is done in this process."""
    with (
        unsupervised(),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as stop,
    ):
        patch.setattr(sys, "argv", ["optimize", *map(str, arguments)])
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for language, sentences in SENTENCES.items():
        blocks = ["\n".join(line.replace(" ", "\t") for line in row) for row in sentences]
        (folder / f"{language}.conll").write_text("\n\n".join(blocks) + "\n")
    return folder


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """The tagger with other weights, without its tokenizer and labels."""
    model = onnx.load(TAGGER / "model.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 2 and array.dtype == np.float32:
            rng = np.random.default_rng(0)
            noise = rng.normal(size=array.shape).astype(np.float32) * array.std()
            tensor.CopyFrom(numpy_helper.from_array(array + noise, tensor.name))
    folder = tmp_path / "other"
    folder.mkdir()
    onnx.save(model, folder / "model.int8.onnx")
    return folder / "model.int8.onnx"


def test_scores_are_those_of_the_taggers_own_script(
    columns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TAGGER))
    own: Any = importlib.import_module("evaluate")
    data: Any = importlib.import_module("tagger_data")
    runtime: Any = importlib.import_module("tokenizers")
    sentences = [
        data.Sentence(language, *zip(*(line.split() for line in row), strict=True))
        for language, rows in SENTENCES.items()
        for row in rows
    ]
    tokenizer = runtime.Tokenizer.from_file(str(TAGGER / "tokenizer.json"))
    expected = own.evaluate_model(TAGGER / "model.onnx", tokenizer, sentences)
    report = tmp_path / "report.json"
    assert command("evaluate", TAGGER / "model.onnx", "--data", columns, "--json", report) == 0
    facts = json.loads(report.read_text())
    assert facts["groups"] == {"de": 2, "en": 1}
    (model,) = facts["models"]
    for group in ("de", "en", "all"):
        for kind in ("PER", "LOC", "ORG", "micro"):
            mine, theirs = model["scores"][group]["classes"].get(kind), expected[group][kind]
            if mine is not None:
                assert mine["F1"] == pytest.approx(100 * theirs.f1)
                assert mine["support"] == theirs.support
    assert model["scores"]["all"]["whole"]["F1"] > 50
    assert facts["drop"] is None


def test_the_worst_group_decides(
    columns: Path, spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ("--data", columns, "--against", TAGGER / "model.onnx")
    assert command("evaluate", spoiled, *against) == 0
    told = capsys.readouterr().out
    assert "before" in told and "after" in told and "difference" in told
    assert "tokenizer and labels for" in told
    assert command("evaluate", spoiled, *against, "--max-drop", "1") == 1
    assert "F1 of" in capsys.readouterr().err
    assert command("evaluate", TAGGER / "model.onnx", *against, "--max-drop", "0") == 0


def test_usage(columns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", TAGGER / "model.onnx") == 2
    assert command("evaluate", TAGGER / "model.onnx", "--data", columns, "--max-drop", "1") == 2
    assert command("evaluate", TAGGER / "none.onnx", "--data", columns) == 7
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("error: ") for line in lines if not line.startswith("answering"))


def evaluated(path: Path, data: Path, **options: Any) -> dict[str, Any]:
    request = driver.Request(str(path), data=str(data), **options)
    return evaluate_artifacts(vars(request) | {"against": None}, lambda event: None)


def rows(path: Path, *content: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Folders of artifacts whose answers are looked up."""

    def make(task: str, table: dict[str, list[float]], **told: Any) -> Path:
        tokenizer = artifacts.word_level(list(table))
        found = np.zeros((tokenizer.get_vocab_size(), len(next(iter(table.values())))))
        for piece, row in table.items():
            found[tokenizer.token_to_id(piece)] = row
        whole = task == "text-classification"
        output = "last_hidden_state" if task == "feature-extraction" else "logits"
        model = artifacts.summed(found) if whole else artifacts.lookup(found, output=output)
        return artifacts.folder(tmp_path / task, model, task, tokenizer, **told)

    return make


def test_classes(made: Callable[..., Path], tmp_path: Path) -> None:
    path = made("text-classification", {"good": [0, 2], "bad": [2, 0]}, labels=["no", "yes"])
    data = rows(
        tmp_path / "a.jsonl",
        {"text": "good", "label": "yes", "group": "x"},
        {"text": "bad bad", "label": 0, "group": "x"},
        {"text": "bad", "label": "yes", "group": "y"},
        {"text": "good", "label": "perhaps", "group": "y"},
    )
    facts = evaluated(path, data)
    scores = facts["models"][0]["scores"]
    assert scores["x"]["whole"] == {"accuracy": 100.0, "macro F1": 100.0}
    assert scores["y"]["whole"]["accuracy"] == 0.0
    assert scores["all"]["whole"]["accuracy"] == 50.0
    assert facts["warnings"] == ["annotated labels that the model does not have: perhaps (1)"]


def test_examples_without_a_group_are_one_and_all_is_none(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    path = made("text-classification", {"good": [0, 2], "bad": [2, 0]}, labels=["no", "yes"])
    row = {"text": "good", "label": "yes"}
    facts = evaluated(path, rows(tmp_path / "a.jsonl", row, row | {"group": "x"}))
    assert facts["groups"] == {"(none)": 1, "x": 1}
    with pytest.raises(UsageError, match="'all'"):
        evaluated(path, rows(tmp_path / "a.jsonl", row | {"group": "all"}))


def test_similarity(made: Callable[..., Path], tmp_path: Path) -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.9, 0.1], "c": [0.0, 1.0], "d": [-1.0, 0.2]}
    path = made("feature-extraction", vectors)
    pairs = [("a", "b", 5.0), ("a", "c", 2.0), ("a", "d", 0.0), ("a", "a", 4.0)]
    data = rows(tmp_path / "a.jsonl", *({"text1": x, "text2": y, "score": z} for x, y, z in pairs))
    (model,) = evaluated(path, data)["models"]
    # The order of the first and the last is the other way round: 1 - 6 * 2 / (4 * 15).
    assert model["scores"]["all"]["whole"]["Spearman"] == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "good"}, "no 'label'"),
        ({"label": "yes"}, "no 'text'"),
        ({"text": 3, "label": "yes"}, "is no text"),
        ({"text": "good", "label": 7}, "7 is no label"),
    ],
)
def test_examples_that_cannot_be_used(
    made: Callable[..., Path], tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    path = made("text-classification", {"good": [0, 2], "bad": [2, 0]}, labels=["no", "yes"])
    data = rows(tmp_path / "a.jsonl", {"text": "good", "label": "yes"}, row)
    with pytest.raises(UsageError, match=reason) as raised:
        evaluated(path, data)
    assert raised.value.place == "a.jsonl:2"


def answers(path: Path, **given: Any) -> tuple[dict[str, Any], str]:
    """Answers as data, and as they are shown."""
    argument = {"model": str(path), "provider": "cpu", "threads": 1}
    facts = answered(argument | given, lambda event: None)
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        render_answers(console, facts)
    return facts, capture.get()


def test_answers_as_data_and_as_lines(made: Callable[..., Path]) -> None:
    path = made("text-classification", {"good": [0, 2], "bad": [2, 0]}, labels=["no", "yes"])
    facts, told = answers(path, texts=["good [x]", "bad"])
    assert [item["label"] for item in facts["answers"]] == ["yes", "no"]
    assert told.splitlines()[0] == "yes  (yes 0.881, no 0.119)  good [x]"

    path = made("token-classification", {"Rome": [0, 9], "saw": [1, 0]}, labels=["O", "B-LOC"])
    _, told = answers(path, texts=["saw Rome [x]."])
    assert told == "saw [Rome LOC] [x].\n"

    path = made("feature-extraction", {"a": [1.0, 0.5]})
    facts, told = answers(path, texts=["a"])
    assert len(facts["answers"][0]) == 2
    assert told.startswith("2 numbers: 0.3333")

    with pytest.raises(UsageError, match="is of texts"):
        answers(path, images=["a.png"])
