"""Texts: an artifact that answers for its task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.optimizer.errors import BurnishError, UsageError
from burnish.runtimes.requests.interface import (
    Answers,
    Request,
    fields_of,
    one_by_one,
    texts_of,
)
from burnish.runtimes.tasks.answers import as_data
from burnish.runtimes.tasks.questions import QuestionAnswering
from burnish.runtimes.tasks.texts import TextsCut

EXAMPLE = "Ada Lovelace lived in London."


@dataclass(frozen=True)
class Asked:
    """A request: texts, or pairs; of questions the context, else empty."""

    texts: tuple[Any, ...]
    context: str = ""

    @property
    def paired(self) -> bool:
        """Whether any text is a pair."""
        return any(isinstance(text, tuple) for text in self.texts)


class TextAnswers:
    """Answers of an opened task of texts; see `interface.Answerer`.

    Args:
        task: see `runtimes.tasks`; closed with this.
    """

    def __init__(self, task: Any) -> None:
        self.task: str = task.name
        self._task = task
        self._asks = isinstance(task, QuestionAnswering)

    def read(self, request: Request) -> Asked:
        fields_of(request, ("text", "texts", *(["context"] if self._asks else [])))
        texts = texts_of(request)
        context = request.get("context", "")
        if self._asks and not (isinstance(context, str) and context):
            raise UsageError("a question is asked about a text", hint='"context": "..."')
        return Asked(tuple(texts), context)

    def answer(self, requests: Sequence[Asked]) -> Answers:
        if len(requests) > 1 and len({item.paired for item in requests}) > 1:
            return one_by_one(self, requests)
        with warnings.catch_warnings(record=True) as cut:
            warnings.simplefilter("always", TextsCut)
            try:
                found = self._found(requests)
            except BurnishError as error:
                return [error] if len(requests) == 1 else one_by_one(self, requests)
        if cut and len(requests) > 1:  # the notes are about numbers of texts
            return one_by_one(self, requests)
        answers, start = [], 0
        for item in requests:
            end = start + len(item.texts)
            notes = [str(warning.message) for warning in cut]
            told = {"task": self.task, "answers": [as_data(one) for one in found[start:end]]}
            answers.append(told | {"notes": notes})
            start = end
        return [*answers]

    def _found(self, requests: Sequence[Asked]) -> Sequence[Any]:
        texts = [text for item in requests for text in item.texts]
        if not self._asks:
            answers: Sequence[Any] = self._task(texts)
            return answers
        contexts = [item.context for item in requests for _ in item.texts]
        asked: Sequence[Any] = self._task(texts, contexts)
        return asked

    def probe(self) -> None:
        self._task(*([EXAMPLE], [EXAMPLE]) if self._asks else ([self._sample()],))

    def _sample(self) -> str:
        mask_id = getattr(self._task, "mask_id", None)
        if mask_id is None:
            return EXAMPLE
        return f"Ada lived in {self._task.texts.tokenizer.id_to_token(mask_id)}."

    def example(self) -> dict[str, Any]:
        if self._asks:
            return {"texts": ["Where did Ada live?"], "context": EXAMPLE}
        return {"texts": [self._sample()]}

    def about(self) -> dict[str, Any]:
        return {"fields": list(self.example())}

    def close(self) -> None:
        self._task.close()
