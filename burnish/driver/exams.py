"""What is asked for each task: questions and annotations of examples, and answers to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.optimizer.annotated import TAGS, TEXT, TOKENS, Example
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.metrics import judges
from burnish.runtimes.tasks.classes import REGRESSION
from burnish.runtimes.tasks.likelihood import of_masked

ROWS = 16
"""Texts that are written at a time."""

SUMMARIZATION = "summarization"
TRANSLATION = "text2text-generation"
TARGETS = ("target", "targets", "reference", "references", "translation")
SUMMARIES = ("summary", "summaries")


@dataclass(frozen=True)
class Exam:
    """An exam.

    Attributes:
        judge: a row of the table of metrics.
        question: what an example asks.
        annotation: what its answer should be, given the model's labels.
        answers: those of an opened task to questions, in the form that is judged.
    """

    judge: str
    question: Callable[[Example], Any]
    annotation: Callable[[Example, Sequence[str]], Any]
    answers: Callable[[Any, Sequence[Any]], Sequence[Any]]


def exam_for(task: str, asked: str | None, examples: Sequence[Example], config: Any) -> Exam:
    """The exam of a task.

    Args:
        task: the hub's name.
        asked: the word that the user said, which may tell summaries from translations.
        examples: those that will be asked.
        config: the model's configuration.

    Raises:
        UnsupportedModel: there is none for the task.
    """
    if task == TRANSLATION:
        brief = asked == SUMMARIZATION or any(key in examples[0].fields for key in SUMMARIES)
        judge = judges.SUMMARIES if brief else judges.TRANSLATION
        return Exam(judge, _source, _targets, _written)
    if task == "text-classification" and config.get("problem_type") == REGRESSION:
        return Exam(judges.SIMILARITY, _text, _number, _scores)
    if task not in EXAMS:
        raise UnsupportedModel(f"no metric is known for the task {task}")
    return EXAMS[task]


def _first(example: Example, *names: str) -> Any:
    """The field with the first of these names that is there."""
    for name in names:
        if name in example.fields:
            return example.fields[name]
    raise example.wrong(f"the line has no {' or '.join(repr(name) for name in names)}")


def _string(example: Example, *names: str) -> str:
    value = _first(example, *names)
    if not isinstance(value, str):
        raise example.wrong(f"{names[0]!r} is no text")
    return value


def _strings(example: Example, *names: str) -> list[str]:
    value = _first(example, *names)
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise example.wrong(f"{names[0]!r} is no list of texts")
    return value


def _named(example: Example, value: Any, labels: Sequence[str]) -> str:
    """A label by its name or number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(labels):
        return labels[value]
    if isinstance(value, str):
        return value
    raise example.wrong(f"{value!r} is no label")


def _text(example: Example) -> str | tuple[str, str]:
    if {"text1", "text2"} <= set(example.fields):
        return _pair(example)
    return _string(example, TEXT)


def _pair(example: Example) -> tuple[str, str]:
    return _string(example, "text1", "sentence1"), _string(example, "text2", "sentence2")


def _classes(example: Example, labels: Sequence[str]) -> frozenset[str]:
    value = _first(example, "label", "labels")
    values = value if isinstance(value, list) else [value]
    return frozenset(_named(example, item, labels) for item in values)


def _number(example: Example, labels: Sequence[str]) -> float:
    value = _first(example, "score", "label")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise example.wrong("'score' is no number")
    return float(value)


def _words(example: Example) -> list[str]:
    return _strings(example, TOKENS, "words")


def _tags(example: Example, labels: Sequence[str]) -> list[str]:
    value = _first(example, TAGS, "labels", "ner_tags")
    if not isinstance(value, list) or len(value) != len(_words(example)):
        raise example.wrong("there is no tag for each word")
    return [_named(example, item, labels) for item in value]


def _asked(example: Example) -> tuple[str, str]:
    return _string(example, "question"), _string(example, "context")


def _accepted(example: Example, labels: Sequence[str]) -> list[str]:
    value = _first(example, "answers", "answer")
    if isinstance(value, dict):  # SQuAD keeps texts beside their places
        example = Example({"answers": value.get("text")}, example.group, example.place)
    return _strings(example, "answers", "answer")


def _source(example: Example) -> tuple[str, str]:
    """A text, and the language that it goes into; empty where the model knows."""
    language = _string(example, "language") if "language" in example.fields else ""
    return _string(example, TEXT, "source", "document"), language


def _targets(example: Example, labels: Sequence[str]) -> list[str]:
    if not (found := _strings(example, *TARGETS, *SUMMARIES)):
        raise example.wrong("there is nothing to compare with")
    return found


def _image(example: Example) -> str:
    return _string(example, "image")


def _nothing(example: Example, labels: Sequence[str]) -> None:
    return None


def _labels(task: Any, questions: Sequence[Any]) -> list[frozenset[str]]:
    return [frozenset(item.labels) for item in task(questions)]


def _scores(task: Any, questions: Sequence[Any]) -> list[float]:
    return [item.score for item in task(questions)]


def _tagged(task: Any, questions: Sequence[Any]) -> list[list[str]]:
    return [[tag.label for tag in row] for row in task.tags(questions)]


def _answered(task: Any, questions: Sequence[Any]) -> list[str]:
    asked, contexts = ([item[index] for item in questions] for index in (0, 1))
    return [item.text for item in task(asked, contexts)]


def _cosines(task: Any, questions: Sequence[Any]) -> list[float]:
    first, second = (task([item[index] for item in questions], normalize=True) for index in (0, 1))
    return [float(value) for value in np.einsum("nd,nd->n", first, second, dtype=np.float64)]


def _written(task: Any, questions: Sequence[Any]) -> list[str]:
    found: dict[int, str] = {}
    for language in sorted({language for _, language in questions}):
        mine = [index for index, item in enumerate(questions) if item[1] == language]
        order = sorted(mine, key=lambda index: len(questions[index][0]))
        for start in range(0, len(order), ROWS):
            batch = order[start : start + ROWS]
            texts = [questions[index][0] for index in batch]
            made = task.generate(texts, language=language or None)
            found |= zip(batch, made.texts, strict=True)
    return [found[index] for index in range(len(questions))]


EXAMS = {
    "text-classification": Exam(judges.LABELS, _text, _classes, _labels),
    "token-classification": Exam(judges.SPANS, _words, _tags, _tagged),
    "question-answering": Exam(judges.ANSWERS, _asked, _accepted, _answered),
    "fill-mask": Exam(judges.TEXT, _text, _nothing, of_masked),
    "text-generation": Exam(judges.TEXT, _text, _nothing, lambda task, questions: task(questions)),
    "feature-extraction": Exam(judges.SIMILARITY, _pair, _number, _cosines),
    "image-classification": Exam(judges.LABELS, _image, _classes, _labels),
}


def located(question: Any, exam: Exam, beside: Path) -> Any:
    """A question whose file, if it names one, is looked for beside the data."""
    return str(beside / question) if exam.question is _image else question
