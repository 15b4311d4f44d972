"""Opening an artifact for requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.optimizer import feeds, model, roles
from burnish.optimizer.artifact import companion, graph_of
from burnish.optimizer.errors import BurnishError, UnsupportedModel, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.generate import TASKS as WRITING
from burnish.runtimes.generate import Generator
from burnish.runtimes.generate.opening import task_of
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.requests.arrays import ArrayAnswers
from burnish.runtimes.requests.interface import Answerer
from burnish.runtimes.requests.prompts import PromptAnswers
from burnish.runtimes.requests.texts import TextAnswers
from burnish.runtimes.tasks.folder import TOKENIZER
from burnish.runtimes.tasks.opening import open_task
from burnish.runtimes.tasks.pictures import ImageClassification, ZeroShotImageClassification
from burnish.runtimes.tasks.ports import Opened

ARRAYS = "arrays"
"""Stands for no task, where an artifact has one."""

Samples = list[dict[str, Array]]


def open_answerer(
    path: Path,
    *,
    provider: str = "cpu",
    threads: int = 0,
    task: str | None = None,
    tokenizer: Path | None = None,
) -> Answerer:
    """What answers requests to an artifact.

    Its task decides: the one asked for, or what its manifest, or its ports where a tokenizer lies
    beside it, say. Without one, and where it is of images, requests are of arrays.

    Args:
        path: an .onnx file, or an artifact folder.
        provider: a row of `runtimes.providers`.
        threads: 0 for the runtime's own choice.
        task: the hub's name of what it is for, or `arrays`.
        tokenizer: for texts; None for what lies beside the model.

    Raises:
        BurnishError: it cannot be opened.
    """
    if task != ARRAYS:
        opened = _of_task(path, provider, threads, task, tokenizer)
        if isinstance(opened, Generator):
            return PromptAnswers(opened, task or task_of(path) or WRITING[0])
        if opened is not None:
            return TextAnswers(opened)
    file = Path(graph_of(str(path)))
    session = PROVIDERS[provider].open(file, provider=provider, threads=threads)
    arrays = Opened(session, provider)
    return ArrayAnswers(arrays, samples(file, arrays))


def _of_task(
    path: Path, provider: str, threads: int, task: str | None, tokenizer: Path | None
) -> Any:
    """What answers for the task of an artifact; None where it has none, or is of images."""
    told = bool(task or tokenizer) or (path.is_dir() and bool(task_of(path)))
    if not told and not companion(path, TOKENIZER).is_file():
        return None
    try:
        opened = open_task(path, provider=provider, threads=threads, task=task, tokenizer=tokenizer)
    except (UsageError, UnsupportedModel):
        if told:
            raise
        return None
    if isinstance(opened, ImageClassification | ZeroShotImageClassification):
        opened.close()
        return None
    return opened


def samples(file: Path, opened: Opened) -> Samples:
    """Two made-up feeds of the same sizes that a model accepts; none where it accepts none."""
    slots = roles.slots(model.load(file).model)
    for given in itertools.chain([{"batch": 1, "sequence": 8}, {}], feeds.ladder(slots)):
        for first, second in _pairs(slots, given):
            try:
                opened.run(opened.outputs, first)
                opened.run(opened.outputs, second)
            except BurnishError:
                continue
            return [first, second]
    return []


def _pairs(slots: list[roles.Slot], given: dict[str, int]) -> Iterator[Samples]:
    """Feeds that differ in their values only."""
    try:
        pairs = zip(feeds.trials(slots, 0, given), feeds.trials(slots, 1000, given), strict=True)
        for (_, first), (_, second) in pairs:
            yield [dict(first), dict(second)]
    except UnsupportedModel:
        return
