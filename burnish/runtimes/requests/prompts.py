"""Prompts: an artifact that writes text, with the fields of its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from burnish.optimizer.errors import BurnishError, UsageError
from burnish.runtimes.generate import Generated, Generator, Settings
from burnish.runtimes.requests.interface import (
    Answers,
    Request,
    fields_of,
    one_by_one,
    texts_of,
)

OWN = ("text", "texts", "messages", "chat", "language", "stream")
SETTINGS = tuple(item.name for item in fields(Settings))

MOST_NEW, MOST_BEAMS, MOST_GUESSED = 8192, 16, 64
"""What a request may ask for at most: new tokens, beams, and tokens guessed ahead."""


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        ids: tokens of each prompt, or none where there are texts.
        texts: the prompts.
        settings: that win over the model's own.
        language: see `Generator.generate`.
        alone: whether what it gives depends on its place in a batch.
    """

    ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    language: str | None = None
    alone: bool = False

    @property
    def kind(self) -> str:
        """What requests have in common that are written together."""
        return json.dumps([self.settings, self.language, bool(self.ids)], sort_keys=True)

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(self.ids or self.texts)


class PromptAnswers:
    """Texts of an opened generator; see `interface.Answerer`.

    Args:
        generator: closed with this.
        task: the hub's name.
    """

    def __init__(self, generator: Generator, task: str) -> None:
        self._generator, self.task = generator, task

    def read(self, request: Request) -> Asked:
        fields_of(request, (*OWN, *SETTINGS))
        settings = {name: request[name] for name in SETTINGS if request.get(name) is not None}
        made = self._generator.settings.override(**settings)
        for name, value, most in (
            ("max_new_tokens", made.max_new_tokens, MOST_NEW),
            ("max_length", made.max_length, max(MOST_NEW, self._generator.context)),
            ("num_beams", made.num_beams, MOST_BEAMS),
            ("speculate", made.speculate, MOST_GUESSED),
        ):
            if value > most:
                raise UsageError(f"{name} is {value}, and at most {most}")
        language = request.get("language")
        if language is not None and not isinstance(language, str):
            raise UsageError("language is a tag", hint='"language": "fr"')
        ids, texts = self._prompts(request)
        return Asked(ids, texts, settings, language, made.do_sample)

    def _prompts(self, request: Request) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
        messages = request.get("messages")
        if messages is None:
            texts = texts_of(request)
            if any(not isinstance(text, str) for text in texts):
                raise UsageError("a prompt is a text, not a pair")
            if not request.get("chat"):
                return (), tuple(texts)
            talks = [[{"role": "user", "content": text}] for text in texts]
        else:
            if not isinstance(messages, list) or not all(_is_message(item) for item in messages):
                hint = '[{"role": "user", "content": "..."}]'
                raise UsageError("messages have a role and a content", hint=hint)
            talks = [messages]
        return tuple(tuple(self._generator.chat_ids(talk)) for talk in talks), ()

    def answer(self, requests: Sequence[Asked]) -> Answers:
        groups: dict[str, list[int]] = {}
        for index, item in enumerate(requests):
            groups.setdefault(f"{index}" if item.alone else item.kind, []).append(index)
        found: dict[int, dict[str, Any] | BurnishError] = {}
        for group in groups.values():
            together = [requests[index] for index in group]
            found |= zip(group, self._together(together), strict=True)
        return [found[index] for index in range(len(requests))]

    def _together(self, requests: Sequence[Asked]) -> Answers:
        first = requests[0]
        given: dict[str, Any] = {"texts": [text for item in requests for text in item.texts]}
        if first.ids:
            given = {"ids": [row for item in requests for row in item.ids]}
        try:
            made = self._generator.generate(**given, language=first.language, **first.settings)
        except BurnishError as error:
            return [error] if len(requests) == 1 else one_by_one(self, requests)
        answers, start = [], 0
        for item in requests:
            answers.append(self._told(made, range(start, start + item.count)))
            start += item.count
        return [*answers]

    def _told(self, made: Generated, rows: range) -> dict[str, Any]:
        texts: list[dict[str, Any]] = []
        for row in rows:
            score = {"score": made.scores[row]} if made.scores else {}
            ids, ended = made.ids[row], made.ended[row]
            texts.append({"text": made.texts[row], "ids": ids, "ended": ended, **score})
        new = sum(len(item["ids"]) for item in texts)
        return {"task": self.task, "texts": texts, "new_tokens": new, "notes": made.notes}

    def stream(self, asked: Asked) -> Iterator[str]:
        """The text that follows a prompt, piece by piece.

        Raises:
            UsageError: there are several prompts, or it is a conversation.
        """
        if len(asked.texts) != 1:
            raise UsageError("one text is streamed at a time, and no conversation")
        return self._generator.stream(asked.texts[0], language=asked.language, **asked.settings)

    def probe(self) -> None:
        self._generator.generate(ids=[[1]], max_new_tokens=1, num_beams=1, do_sample=False)

    def example(self) -> dict[str, Any]:
        return {"texts": ["Once upon a time"], "max_new_tokens": 32}

    def about(self) -> dict[str, Any]:
        return {"fields": [*OWN, *SETTINGS], "context": self._generator.context}

    def close(self) -> None:
        self._generator.close()


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(k), str) for k in ("role", "content"))
