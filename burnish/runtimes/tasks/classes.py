"""Classes of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from burnish.optimizer.errors import InvalidModel
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.answers import Classification
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.task import Task, names_of, sigmoid, softmax
from burnish.runtimes.tasks.texts import Text, Texts, admit

REGRESSION, SEVERAL = "regression", "multi_label_classification"
"""Values of `problem_type` in a configuration for which scores are no softmax."""

HOLDS = 0.5
"""Least probability of a class that does not exclude others."""


class TextClassification(Task):
    """Called on a text, a pair of texts as a tuple, or a list of either."""

    name = "text-classification"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened)
        self.texts = Texts(folder, opened)
        self._logits = self.output("logits")

    @overload
    def __call__(self, texts: Text) -> Classification: ...

    @overload
    def __call__(self, texts: list[str] | list[tuple[str, str]]) -> list[Classification]: ...

    def __call__(
        self, texts: Text | list[str] | list[tuple[str, str]]
    ) -> Classification | list[Classification]:
        """Classes; see `answers.Classification`. Warns `TextsCut` where a text is too long."""
        given: Sequence[Text] = texts if isinstance(texts, list) else [texts]
        encodings = self.texts.encode(given)
        found = self.texts.run(
            encodings,
            [self._logits],
            lambda _, row: classification(row[self._logits], self.folder),
        )
        return found if isinstance(texts, list) else found[0]


def classification(logits: Array, folder: Folder) -> Classification:
    """What logits say, [classes], by the `problem_type` of the configuration.

    Where it tells none, classes exclude each other; one alone has a sigmoid, as Transformers
    have it.

    Raises:
        InvalidModel: they are of another shape, or labels do not fit.
    """
    if logits.ndim != 1:
        raise InvalidModel(f"its logits have {logits.ndim + 1} axes, where classes have 2")
    kind = folder.config.get("problem_type")
    several = kind == SEVERAL or (len(logits) == 1 and kind != REGRESSION)
    values = logits if kind == REGRESSION else (sigmoid if several else softmax)(logits)
    return ranked(values, names_of(folder.labels, len(logits)), several=several)


def ranked(values: Array, names: Sequence[str], *, several: bool) -> Classification:
    """Scores with their names."""
    scores = {name: float(value) for name, value in zip(names, values, strict=True)}
    best = max(scores, key=scores.__getitem__)
    held = tuple(name for name in scores if scores[name] >= HOLDS) if several else (best,)
    return Classification(best, scores[best], scores, held)
