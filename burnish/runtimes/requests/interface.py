"""What answers requests, whatever they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from burnish.optimizer.errors import BurnishError, UsageError, nearest

MOST_INPUTS = 256
"""Texts, or rows of arrays' first axis, that one request may hold."""

Request = Mapping[str, Any]

Answers = list[dict[str, Any] | BurnishError]
"""One for each request, in order: what is answered, or what is wrong with the request."""


class Answerer(Protocol):
    """An opened artifact."""

    task: str
    """The hub's name of what it is for; empty for arrays."""

    def read(self, request: Request) -> Any:
        """A request, looked through.

        Raises:
            UsageError: it makes no sense; the message says where.
        """

    def answer(self, requests: Sequence[Any]) -> Answers:
        """Answers to what `read` gave, together where that changes nothing about them."""

    def probe(self) -> None:
        """A real inference of made-up input; raises where it fails."""

    def example(self) -> dict[str, Any]:
        """A request that is answered."""

    def about(self) -> dict[str, Any]:
        """What it takes and gives."""

    def close(self) -> None:
        """Free what it holds."""


def fields_of(request: Request, known: Sequence[str]) -> None:
    """Raise UsageError where a request has a field that is not known."""
    for name in request:
        if name not in known:
            hint = nearest(str(name), known) or ", ".join(known[:8])
            raise UsageError(f"there is no field {name}", hint=hint)


def texts_of(request: Request) -> list[Any]:
    """The texts of a request: `text`, or `texts`; an item of these may be a pair.

    Raises:
        UsageError: there is none, too many, or one is no text.
    """
    given = request.get("texts", request.get("text"))
    if "texts" in request and "text" in request:
        raise UsageError("text and texts exclude each other")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise UsageError("there are no texts", hint='{"texts": ["..."]}')
    if len(texts) > MOST_INPUTS:
        raise UsageError(f"{len(texts)} texts in one request", hint=f"at most {MOST_INPUTS}")
    return [_text(item) for item in texts]


def _text(item: Any) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return tuple(item)
    raise UsageError("a text is a string, or a list of two for a pair")


def one_by_one(answerer: Answerer, requests: Sequence[Any]) -> Answers:
    """Answers to requests that were refused together: each by itself."""
    return [answerer.answer([item])[0] for item in requests]
