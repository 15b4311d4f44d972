"""Translations: BLEU and chrF, by the library sacrebleu, whose numbers others can compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.optimizer.metrics.scores import Scores

BLEU, CHRF = "BLEU", "chrF"


def _library() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise UsageError(
            "BLEU and chrF need sacrebleu", hint="pip install 'burnish[metrics]'"
        ) from None
    return sacrebleu


def score(annotated: Sequence[Sequence[str]], given: Sequence[str]) -> Scores:
    """BLEU and chrF over all texts, with sacrebleu's defaults.

    Args:
        annotated: the translations that each text accepts.
        given: one translation each.
    """
    library = _library()
    most = max(map(len, annotated))
    # One list for each number of a reference; where a text has fewer, None stands for the others.
    references = [
        [row[index] if index < len(row) else None for row in annotated] for index in range(most)
    ]
    return Scores(
        {
            BLEU: float(library.corpus_bleu(list(given), references).score),
            CHRF: float(library.corpus_chrf(list(given), references).score),
        },
        len(annotated),
    )
