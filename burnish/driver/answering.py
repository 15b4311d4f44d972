"""Answers of an artifact to texts and images, inside its sandboxed child."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UsageError, about
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes.tasks.answers import as_data
from burnish.runtimes.tasks.opening import open_task
from burnish.runtimes.tasks.pictures import ImageClassification, ZeroShotImageClassification
from burnish.runtimes.tasks.questions import QuestionAnswering
from burnish.runtimes.tasks.texts import TextsCut

Emit = Callable[[dict[str, Any]], None]


def answered(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """What an artifact answers, in the order of what it is given.

    Args:
        argument: a request's `model`, `provider`, `threads`, `tokenizer` and `task`; `texts` and
            `images` (paths); for questions their `context`, and `classes` for images.
        emit: told of nothing.

    Returns:
        `task`, `inputs`, `answers` (one for each, as data) and `notes`.
    """
    path, tokenizer = Path(argument["model"]), argument.get("tokenizer")
    task = open_task(
        path, provider=argument["provider"], threads=argument["threads"],
        task=named(argument["task"]).name if argument.get("task") else None,
        tokenizer=Path(tokenizer) if tokenizer else None,
    )  # fmt: skip
    with closing(task), about(path), warnings.catch_warnings(record=True) as cut:
        warnings.simplefilter("always", TextsCut)
        inputs, found = _asked(task, argument)
    return {
        "task": task.name,
        "inputs": inputs,
        "answers": [as_data(item) for item in found],
        "notes": [str(item.message) for item in cut],
    }


def _asked(task: Any, argument: dict[str, Any]) -> tuple[list[str], Sequence[Any]]:
    """What was given, and the answers to it."""
    texts, images = list(argument.get("texts") or ()), list(argument.get("images") or ())
    context, classes = argument.get("context"), list(argument.get("classes") or ())
    of_images = isinstance(task, ImageClassification | ZeroShotImageClassification)
    if of_images and not images:
        raise UsageError(f"{task.name} is of images", hint="--image FILE")
    if not of_images and not texts:
        raise UsageError(f"{task.name} is of texts", hint="--text")
    if isinstance(task, ZeroShotImageClassification):
        if not classes:
            raise UsageError("the classes are yours to name", hint="--classes cat,dog")
        return images, task(images, classes)
    if isinstance(task, QuestionAnswering):
        if not context:
            raise UsageError("a question is asked about a text", hint="--context")
        return texts, task(texts, [context] * len(texts))
    return (images, task(images)) if of_images else (texts, task(texts))
