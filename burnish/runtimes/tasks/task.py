"""What all opened tasks share."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np

from burnish.optimizer.errors import InvalidModel
from burnish.runtimes.arrays import Array
from burnish.runtimes.interface import Runtime
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.ports import Opened


class Task:
    """An artifact that answers for its task: called on one input, or a list of them.

    Attributes:
        name: the hub's name of the task.
        folder: what lies beside the model.
    """

    name = ""

    def __init__(self, folder: Folder, opened: Opened) -> None:
        self.folder, self._opened = folder, opened

    @property
    def session(self) -> Runtime:
        """The raw runtime; `run` has the signature of `InferenceSession.run`."""
        return self._opened.session

    def close(self) -> None:
        """Free what the runtime holds; a second call does nothing."""
        self._opened.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def output(self, *names: str) -> str:
        """The first of the outputs of these names, or the only one there is.

        Raises:
            InvalidModel: it has none of them.
        """
        found = self._opened.outputs
        for name in names:
            if name in found:
                return name
        if len(found) == 1:
            return found[0]
        raise InvalidModel(f"it has no output {names[0]}: it is no model for {self.name}")


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    powers = exponentials(logits)
    found: Array = powers / powers.sum(axis=-1, keepdims=True)
    return found


def exponentials(logits: Array) -> Array:
    """Exponentials along the last axis, of which the largest is 1."""
    logits = logits.astype(np.float64)
    found: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return found


def sigmoid(logits: Array) -> Array:
    """Probabilities of classes that do not exclude each other."""
    found: Array = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))
    return found


def names_of(labels: list[str], count: int) -> list[str]:
    """Names of classes; LABEL_0 and so on, as Transformers have it, where none are told.

    Raises:
        InvalidModel: there are others than the model gives.
    """
    if labels and len(labels) != count:
        raise InvalidModel(f"it has {len(labels)} labels, and its model gives {count} classes")
    return labels or [f"LABEL_{index}" for index in range(count)]
