"""Summaries: ROUGE-1, ROUGE-2 and ROUGE-L, the F1 of each (Lin, 2004).

Own code rather than the library rouge-score: that drops every letter but a to z, so that texts in
most languages are empty to it, and it installs nltk and absl for a stemmer. On English texts the
numbers are those of the library without its stemmer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from burnish.optimizer.metrics.scores import Scores

ROUGE_1, ROUGE_2, ROUGE_L = "ROUGE-1", "ROUGE-2", "ROUGE-L"

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return WORD.findall(text.lower())


def _f1(common: int, wanted: int, found: int) -> float:
    return 2.0 * common / (wanted + found) if wanted and found else 0.0


def grams(wanted: Sequence[str], found: Sequence[str], size: int) -> float:
    """F1 of the sequences of `size` words, 0 to 1."""
    first, second = (
        Counter(tuple(row[start : start + size]) for start in range(len(row) - size + 1))
        for row in (wanted, found)
    )
    return _f1((first & second).total(), first.total(), second.total())


def longest(wanted: Sequence[str], found: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words, 0 to 1."""
    lengths = [0] * (len(found) + 1)
    for word in wanted:
        diagonal = 0
        for index, other in enumerate(found, 1):
            best = diagonal + 1 if word == other else max(lengths[index], lengths[index - 1])
            diagonal, lengths[index] = lengths[index], best
    return _f1(lengths[-1], len(wanted), len(found))


def score(annotated: Sequence[Sequence[str]], given: Sequence[str]) -> Scores:
    """The mean over the texts, of each the best of its annotated summaries.

    Args:
        annotated: the summaries that each text accepts.
        given: one summary each.
    """
    totals = dict.fromkeys((ROUGE_1, ROUGE_2, ROUGE_L), 0.0)
    for accepted, text in zip(annotated, given, strict=True):
        found = words(text)
        pairs = [(words(item), found) for item in accepted]
        totals[ROUGE_1] += max(grams(*pair, 1) for pair in pairs)
        totals[ROUGE_2] += max(grams(*pair, 2) for pair in pairs)
        totals[ROUGE_L] += max(longest(*pair) for pair in pairs)
    count = max(len(annotated), 1)
    return Scores({name: 100.0 * value / count for name, value in totals.items()}, len(annotated))
