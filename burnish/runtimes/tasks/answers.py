"""What the tasks answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Classification:
    """Classes of one text or image.

    Attributes:
        label: the one with the highest score.
        score: its score: a probability; of a regression, the number itself.
        scores: of all classes, in the order of the model.
        labels: those that hold; where classes exclude each other, `label` alone.
    """

    label: str
    score: float
    scores: dict[str, float]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Entity:
    """A span of a text.

    Attributes:
        kind: its class.
        text: the span itself.
        start, end: characters of the text, the end exclusive; of words that were given split,
            words.
        score: the mean probability of its words' tags.
    """

    kind: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Answer:
    """A span of a context that answers a question.

    Attributes:
        text: the answer; empty where there is none.
        start, end: characters of the context, the end exclusive.
        score: its probability among all spans that were looked at.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Filling:
    """A token for a masked place.

    Attributes:
        token: as text.
        id: its number.
        score: its probability.
    """

    token: str
    id: int
    score: float


def as_data(answer: Any) -> Any:
    """An answer as JSON knows it."""
    if isinstance(answer, np.ndarray):
        return answer.tolist()
    if isinstance(answer, list):
        return [as_data(item) for item in answer]
    return asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else answer
