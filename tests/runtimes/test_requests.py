"""Requests as JSON: what is read, what is answered together, and what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from generating import artifact, built

from burnish.optimizer.errors import BurnishError, UsageError
from burnish.runtimes import ray_cluster
from burnish.runtimes.requests import Answerer, open_answerer
from burnish.runtimes.requests.arrays import ArrayAnswers, plain
from burnish.runtimes.requests.prompts import PromptAnswers
from burnish.runtimes.requests.texts import TextAnswers

TAGGER = Path(__file__).parents[2] / "examples" / "tagger" / "model.onnx"
TEXT = "Ada Lovelace lived in London."


@pytest.fixture(scope="module")
def arrays() -> Iterator[Answerer]:
    opened = open_answerer(TAGGER, threads=1, task="arrays")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def texts() -> Iterator[Answerer]:
    opened = open_answerer(TAGGER, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answerer]:
    folder = artifact("llama", tmp_path_factory.mktemp("requests") / "llama", built("llama"))
    opened = open_answerer(folder, threads=1)
    yield opened
    opened.close()


def answers(answerer: Answerer, *requests: dict[str, Any]) -> list[Any]:
    return answerer.answer([answerer.read(request) for request in requests])


def test_examples_are_answered(arrays: Answerer, texts: Answerer, prompts: Answerer) -> None:
    for answerer, kind in ((arrays, ArrayAnswers), (texts, TextAnswers), (prompts, PromptAnswers)):
        assert isinstance(answerer, kind)
        answerer.probe()
        (found,) = answers(answerer, answerer.example())
        assert not isinstance(found, BurnishError)
        json.dumps([found, answerer.about()], allow_nan=False)


def test_together_is_as_each_by_itself(
    arrays: Answerer, texts: Answerer, prompts: Answerer
) -> None:
    sizes = ((1, 4), (2, 4), (1, 7))
    feeds = [{"input_ids": np.arange(a * b).reshape(a, b), "attention_mask": np.ones((a, b))}
             for a, b in sizes]  # fmt: skip
    requests = [{"inputs": {key: item.tolist() for key, item in feed.items()}} for feed in feeds]
    assert arrays.about()["joined"]
    for request, found in zip(requests, answers(arrays, *requests), strict=True):
        (alone,) = answers(arrays, request)
        np.testing.assert_allclose(
            found["outputs"]["logits"], alone["outputs"]["logits"], atol=1e-5
        )
    asked = [{"texts": [TEXT]}, {"text": "Bob"}, {"texts": [TEXT, "Berlin"]}]
    for request, found in zip(asked, answers(texts, *asked), strict=True):
        (alone,) = answers(texts, request)
        assert [len(row) for row in found["answers"]] == [len(row) for row in alone["answers"]]
    drawn = {"do_sample": True, "seed": 3, "max_new_tokens": 4}
    asked = [{"text": "a b", "max_new_tokens": 4}, {"text": "c", **drawn}, {"text": "c", **drawn}]
    for request, found in zip(asked, answers(prompts, *asked), strict=True):
        assert found == answers(prompts, request)[0]


def test_one_that_fails_fails_alone(arrays: Answerer) -> None:
    good = {"inputs": {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}}
    bad = {"inputs": {"input_ids": [[1, 10**9]], "attention_mask": [[1, 1]]}}
    first, failed, last = answers(arrays, good, bad, good)
    assert isinstance(failed, BurnishError) and "out of data bounds" in failed.message
    assert first == last


def test_rows_that_know_each_other_are_not_joined(tmp_path: Path) -> None:
    """A mean over the batch: two requests together are not two requests."""
    text = """
        <ir_version: 8, opset_import: ["" : 18]>
        mean (float[n, 4] x) => (float[n, 4] y) {
            axes = Constant <value = int64[1] {0}> ()
            middle = ReduceMean (x, axes)
            y = Sub (x, middle)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "mean.onnx")
    opened = open_answerer(tmp_path / "mean.onnx", threads=1)
    assert not opened.about()["joined"]
    one, two = {"inputs": {"x": [[1, 2, 3, 4]]}}, {"inputs": {"x": [[5, 6, 7, 8]]}}
    assert answers(opened, one, two) == [{"outputs": {"y": [[0.0] * 4]}}] * 2
    opened.close()


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ({}, "there are no inputs"),
        ({"inputs": []}, "there are no inputs"),
        ({"input": {}}, "there is no field input"),
        ({"inputs": {"input_ids": [[1]]}}, "input attention_mask is missing"),
        ({"inputs": {"input_ids": [["a"]], "attention_mask": [[1]]}}, "input_ids is no array"),
        ({"inputs": {"input_ids": [[1], []], "attention_mask": [[1]]}}, "input_ids is no array"),
        ({"inputs": {"input_ids": [1], "attention_mask": [[1]]}}, "has 1 axes, and the model's 2"),
        ({"inputs": {"input_ids": [[1]] * 257, "attention_mask": [[1]] * 257}}, "257 rows"),
        (
            {"inputs": {"input_ids": [[1]], "attention_mask": [[1]]}, "outputs": ["x"]},
            "no output x",
        ),
        ({"inputs": {"input_ids": [[1]], "attention_mask": [[1]]}, "outputs": []}, "list of names"),
    ],
)
def test_arrays_that_are_none(arrays: Answerer, request_: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        arrays.read(request_)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ({"messages": ["hi"]}, "messages have a role"),
        ({"texts": [["a", "b"]]}, "not a pair"),
        ({"texts": "a", "text": "b"}, "exclude each other"),
        ({"texts": [1]}, "a text is a string"),
        ({"text": "a", "language": 3}, "language is a tag"),
        ({"text": "a", "num_beams": 100}, "num_beams is 100, and at most 16"),
        ({"text": "a", "temperature": -1}, "temperature is -1"),
    ],
)
def test_prompts_that_are_none(prompts: Answerer, request_: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        prompts.read(request_)


def test_numbers_that_json_has_not() -> None:
    found = plain(np.array([[1.0, np.nan], [np.inf, -np.inf]]))
    assert found == [[1.0, "NaN"], ["Infinity", "-Infinity"]]
    json.dumps(found, allow_nan=False)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{ray_cluster.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs Ray") as found:
        ray_cluster.part("loading")
    assert found.value.hint == "pip install 'burnish[ray]'"
    with pytest.raises(ImportError):
        ray_cluster.part("nothing")
