"""Spans of words by their tags, and how many of them are found.

The rules are those of conlleval and of seqeval's default mode: a span is right if its class and
both of its ends are, and an inside tag that continues nothing begins a span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from burnish.optimizer.metrics.scores import (
    F1,
    PRECISION,
    RECALL,
    SUPPORT,
    Scores,
    counted,
    macro,
    micro,
)

OUTSIDE = "O"

TAG = re.compile(r"([BIESLU])-(.+)")
"""A place in a span, and its class; L and U are other letters for E and S."""

Span = tuple[str, int, int]
"""Class, first word, and the word behind the last."""


def is_tag(label: str) -> bool:
    """Whether a label tells places in spans."""
    return label == OUTSIDE or TAG.fullmatch(label) is not None


def spans(labels: Sequence[str]) -> Iterator[Span]:
    """The spans of one sentence, in order. A label without a place stands for an inside."""
    kind, start, before = "", 0, OUTSIDE
    for index, label in enumerate((*labels, OUTSIDE)):
        place, name = _parts(label)
        goes_on = place in "IE" and before in "BI" and name == kind
        if kind and not goes_on:
            yield kind, start, index
            kind = ""
        if name and not goes_on:
            kind, start = name, index
        before = place


def _parts(label: str) -> tuple[str, str]:
    """A tag's place (B, I, E, S or O) and class."""
    if label == OUTSIDE:
        return OUTSIDE, ""
    match = TAG.fullmatch(label)
    place, name = match.groups() if match else ("I", label)
    return {"L": "E", "U": "S"}.get(place, place), name


def alone(labels: Sequence[str]) -> list[str]:
    """Labels of a scheme without places (parts of speech): each word is a span by itself."""
    return [label if label == OUTSIDE else f"S-{label}" for label in labels]


def score(annotated: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> Scores:
    """Precision, recall and F1 of spans.

    Args:
        annotated: labels of each sentence, one a word.
        given: likewise, of the same lengths.
    """
    if any(len(a) != len(b) for a, b in zip(annotated, given, strict=True)):
        raise ValueError("there is a label for each word")
    if not all(is_tag(label) for labels in annotated for label in labels):
        annotated, given = [alone(row) for row in annotated], [alone(row) for row in given]
    counts = counted([_placed(row) for row in annotated], [_placed(row) for row in given])
    whole, mean = micro(counts.values()).row(), macro(counts.values())
    return Scores(
        {PRECISION: whole[PRECISION], RECALL: whole[RECALL], F1: whole[F1]},
        int(whole[SUPPORT]),
        {name: row.row() for name, row in counts.items()} | {"micro": whole, "macro": mean},
    )


def _placed(labels: Sequence[str]) -> list[tuple[str, object]]:
    return [(kind, (start, end)) for kind, start, end in spans(labels)]
