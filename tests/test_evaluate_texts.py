"""`optimize evaluate` on questions, and on models that write text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import artifacts
import generating
import numpy as np
import pytest
import torch

from burnish import driver
from burnish.driver.evaluation import evaluate_artifacts
from burnish.driver.exams import EXAMS, exam_for
from burnish.optimizer.annotated import Example
from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.generate import open_generator

TEXTS = ["the model reads the text", "and the text goes on and on", "the text reads the model"]


def evaluated(path: Path, *rows: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The scores of all examples; the report's other parts beside them."""
    data = path.parent / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = driver.Request(str(path), data=str(data), **options)
    facts = evaluate_artifacts(vars(request) | {"against": None}, lambda event: None)
    (model,) = facts["models"]
    return facts | {"all": model["scores"]["all"]["whole"]}


def test_perplexity_of_a_decoder(tmp_path: Path) -> None:
    model = generating.built("llama")
    path = generating.artifact("llama", tmp_path / "m", model)
    facts = evaluated(path, *({"text": text, "group": "x"} for text in TEXTS))
    total = count = 0
    for text in TEXTS:
        ids = torch.tensor([generating.tokenizer().encode(text).ids])
        logits = model(input_ids=ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    assert facts["all"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert (facts["metric"], facts["lower"], facts["groups"]) == ("perplexity", True, {"x": 3})


def test_translations_and_summaries(tmp_path: Path) -> None:
    path = generating.artifact("t5", tmp_path / "m", generating.built("t5"))
    generator = open_generator(path)
    made = [generator.generate([text]).texts[0] for text in TEXTS]
    generator.close()
    rows = [
        {"text": text, "target": [answer, "x"]} for text, answer in zip(TEXTS, made, strict=True)
    ]
    facts = evaluated(path, *rows)
    # Texts of fewer than four words have no BLEU.
    assert set(facts["all"]) == {"BLEU", "chrF"}
    assert facts["all"]["chrF"] == pytest.approx(100.0)
    facts = evaluated(path, *rows, task="summarization")
    assert facts["metric"] == "ROUGE-L"
    facts = evaluated(path, *({"text": text, "summary": "zzz"} for text in TEXTS))
    assert facts["all"] == {"ROUGE-1": 0.0, "ROUGE-2": 0.0, "ROUGE-L": 0.0}


class Written:
    """Stands for a generator, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []
        self.texts: list[str] = []

    def generate(self, texts: list[str], language: str | None) -> Written:
        self.asked.append((len(texts), language))
        self.texts = [f"{text} in {language}" for text in texts]
        return self


def test_texts_are_written_by_language_and_come_in_order() -> None:
    rows = [
        Example({"text": "x" * (40 - i), "language": "de" if i % 2 else "fr"}, "", "")
        for i in range(40)
    ]
    exam = exam_for("text2text-generation", "translation", rows, {})
    task = Written()
    found = exam.answers(task, [exam.question(row) for row in rows])
    assert found == [f"{row.fields['text']} in {row.fields['language']}" for row in rows]
    assert sorted(task.asked) == [(4, "de"), (4, "fr"), (16, "de"), (16, "fr")]


def test_questions(tmp_path: Path) -> None:
    path = artifacts.answering(tmp_path / "q", 16)
    context = "saw Rome , " * 8 + "Ada , Byron saw Rome !"
    rows = [
        {"question": "who", "context": context, "answers": {"text": ["Ada , Byron"]}},
        {"question": "who", "context": "Ada Byron", "answers": ["Byron", "Rome"]},
        {"question": "who", "context": "Ada Byron", "answer": "Ada Byron"},
        {"question": "who", "context": "Ada Byron", "answers": []},
    ]
    assert evaluated(path, *rows)["all"] == pytest.approx(
        {"exact match": 50.0, "F1": 100 * (1 + 2 / 3 + 1 + 0) / 4}
    )


def test_masked_perplexity(tmp_path: Path) -> None:
    tokenizer = artifacts.word_level(["a", "b"])
    size = tokenizer.get_vocab_size()
    path = artifacts.folder(
        tmp_path / "m", artifacts.lookup(np.zeros((size, size))), "fill-mask", tokenizer
    )
    assert evaluated(path, {"text": "a b a"})["all"]["perplexity"] == pytest.approx(size)


def test_a_task_without_a_metric_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no metric"):
        exam_for("zero-shot-image-classification", None, [], {})
    assert "ctc" not in EXAMS
