"""The table of metrics: what is judged, how, and by which number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.optimizer.metrics import (
    answers,
    correlation,
    labels,
    likelihood,
    spans,
    summaries,
    translation,
)
from burnish.optimizer.metrics.scores import F1, Scores


@dataclass(frozen=True)
class Judge:
    """A metric.

    Attributes:
        score: annotations and answers of the same examples in, scores out.
        headline: the measure of the whole that decides.
        lower: whether less of it is better.
    """

    score: Callable[[Any, Any], Scores]
    headline: str
    lower: bool = False

    def drop(self, before: Mapping[str, float], after: Mapping[str, float]) -> float:
        """By how many points the headline is worse; for perplexity, by how many percent."""
        first, second = before[self.headline], after[self.headline]
        if not self.lower:
            return first - second
        if first == second:
            return 0.0
        return 100.0 * (second / first - 1.0) if math.isfinite(first) else -math.inf


SPANS, LABELS, ANSWERS, TEXT, SIMILARITY, TRANSLATION, SUMMARIES = (
    "spans", "labels", "answers", "text", "similarity", "translation", "summaries"
)  # fmt: skip

JUDGES: dict[str, Judge] = {
    SPANS: Judge(spans.score, F1),
    LABELS: Judge(labels.score, labels.ACCURACY),
    ANSWERS: Judge(answers.score, F1),
    TEXT: Judge(likelihood.score, likelihood.PERPLEXITY, lower=True),
    SIMILARITY: Judge(correlation.score, correlation.SPEARMAN),
    TRANSLATION: Judge(translation.score, translation.BLEU),
    SUMMARIES: Judge(summaries.score, summaries.ROUGE_L),
}
