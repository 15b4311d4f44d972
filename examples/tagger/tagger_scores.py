"""Span-level precision, recall and F1 of IOB2 labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ENTITY_TYPES = ("PER", "LOC", "ORG")


@dataclass(frozen=True)
class Score:
    """Counts of spans: predicted and right, predicted, annotated."""

    correct: int
    predicted: int
    support: int

    @property
    def precision(self) -> float:
        """Share of the predicted spans that are right, 0 to 1 (0 where there are none)."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the annotated spans that were found, 0 to 1 (0 where there are none)."""
        return self.correct / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        total = self.predicted + self.support
        return 2.0 * self.correct / total if total else 0.0


def entity_spans(labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield type, first word and end (exclusive) of each entity of IOB2 labels.

    An I- label that does not continue an entity of its own type starts one, as in conlleval.
    """
    kind, start = "", 0
    for position, label in enumerate((*labels, "O")):
        if kind and label != f"I-{kind}":
            yield kind, start, position
            kind = ""
        if label != "O" and not kind:
            kind, start = label[2:], position


def span_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, Score]:
    """Score spans; one is right only if its type and both boundaries are.

    Args:
        gold: annotated labels, one sequence a sentence, one label a word.
        predicted: labels to judge, of the same lengths.

    Returns:
        Scores of PER, LOC, ORG and "micro", all types together.
    """
    correct: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for true, guess in zip(gold, predicted, strict=True):
        if len(true) != len(guess):
            raise ValueError(f"{len(guess)} labels predicted for {len(true)} words")
        true_spans, guess_spans = set(entity_spans(true)), set(entity_spans(guess))
        support.update(span[0] for span in true_spans)
        guessed.update(span[0] for span in guess_spans)
        correct.update(span[0] for span in true_spans & guess_spans)
    scores = {kind: Score(correct[kind], guessed[kind], support[kind]) for kind in ENTITY_TYPES}
    scores["micro"] = Score(correct.total(), guessed.total(), support.total())
    return scores
