"""Answers of artifacts as lines for a terminal; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from burnish.rendering.text import safe

MOST = 5
"""Classes and numbers that are shown of each answer; all are in the JSON."""

SHORT, LONG = 60, 10_000
"""Characters that are shown of an input beside its answer, and where the answer stands in it."""


def render_answers(console: Console, facts: dict[str, Any]) -> None:
    """What an artifact answered; see `driver.answering.answered`."""
    lines = LINES[facts["task"]]
    for given, answer in zip(facts["inputs"], facts["answers"], strict=True):
        for line in lines(given, answer):
            console.print(line, soft_wrap=True)
    for note in facts["notes"]:
        console.print(f"[yellow]note[/yellow] {safe(note, 300)}", soft_wrap=True)


def _classes(given: str, answer: dict[str, Any]) -> Iterator[str]:
    scores = sorted(answer["scores"].items(), key=lambda item: -item[1])
    held = [item for item in scores if item[0] in answer["labels"]]
    shown = held if len(held) > 1 else scores[:MOST]
    told = ", ".join(f"{safe(name)} {score:.3f}" for name, score in shown)
    yield f"[bold]{safe(answer['label'])}[/bold]  ({told})  {safe(given, SHORT)}"


def _entities(given: str, answer: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The text with its entities in brackets."""
    told, place = "", 0
    for entity in answer:
        told += safe(given[place : entity["start"]], LONG)
        inside = safe(given[entity["start"] : entity["end"]], LONG)
        told += rf"[bold]\[{inside} {safe(entity['kind'])}][/bold]"
        place = entity["end"]
    yield told + safe(given[place:], LONG)


def _span(given: str, answer: dict[str, Any]) -> Iterator[str]:
    text = safe(answer["text"], LONG) or "no answer"
    where = f"{answer['start']} to {answer['end']}"
    yield f"[bold]{text}[/bold]  ({answer['score']:.3f}, characters {where})  {safe(given, SHORT)}"


def _fillings(given: str, answer: Sequence[Sequence[dict[str, Any]]]) -> Iterator[str]:
    for place in answer:
        told = ", ".join(f"{safe(item['token'])} {item['score']:.3f}" for item in place)
        yield f"{told}  {safe(given, SHORT)}"


def _vector(given: str, answer: Sequence[float]) -> Iterator[str]:
    shown = ", ".join(f"{value:.4f}" for value in answer[:MOST])
    yield f"{len(answer)} numbers: {shown}, ...  {safe(given, SHORT)}"


LINES: dict[str, Any] = {
    "text-classification": _classes,
    "image-classification": _classes,
    "zero-shot-image-classification": _classes,
    "token-classification": _entities,
    "question-answering": _span,
    "fill-mask": _fillings,
    "feature-extraction": _vector,
}
"""By task: lines for an input and its answer."""
