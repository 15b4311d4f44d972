"""Answers to questions: exact match and F1 of words, as SQuAD counts them.

Rajpurkar et al., 2016 (arXiv:1606.05250), with the normalization of its evaluation script: lower
case, no ASCII punctuation, no English articles, single spaces. A question without an annotated
answer is answered rightly by nothing (SQuAD 2.0).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from burnish.optimizer.metrics.scores import F1, Scores

EXACT = "exact match"

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """The text in the form in which answers are compared."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def overlap(annotated: str, given: str) -> float:
    """F1 of the words of two texts, 0 to 1; of texts without words, whether both have none."""
    wanted, found = normalized(annotated).split(), normalized(given).split()
    if not wanted or not found:
        return float(wanted == found)
    common = (Counter(wanted) & Counter(found)).total()
    return 2.0 * common / (len(wanted) + len(found))


def score(annotated: Sequence[Sequence[str]], given: Sequence[str]) -> Scores:
    """Exact match and F1, of each question against the annotated answer that is closest.

    Args:
        annotated: the answers that each question accepts; none where there is no answer.
        given: one answer each; empty for none.
    """
    exact = total = 0.0
    for accepted, answer in zip(annotated, given, strict=True):
        # An annotation of articles and punctuation alone says nothing.
        kept = [text for text in accepted if normalized(text)] or [""]
        exact += max(normalized(text) == normalized(answer) for text in kept)
        total += max(overlap(text, answer) for text in kept)
    count = max(len(annotated), 1)
    return Scores({EXACT: 100.0 * exact / count, F1: 100.0 * total / count}, len(annotated))
