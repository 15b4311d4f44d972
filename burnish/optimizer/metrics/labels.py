"""Classes of whole examples: accuracy, and F1 by class."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.optimizer.metrics.scores import F1, Scores, counted, macro

ACCURACY, MACRO = "accuracy", "macro F1"


def score(annotated: Sequence[frozenset[str]], given: Sequence[frozenset[str]]) -> Scores:
    """Accuracy (an example is right if all of its classes are, and no others) and macro F1.

    Args:
        annotated: the classes of each example; one, where classes exclude each other.
        given: likewise.
    """
    counts = counted(
        [[(name, 0) for name in row] for row in annotated],
        [[(name, 0) for name in row] for row in given],
    )
    right = sum(one == other for one, other in zip(annotated, given, strict=True))
    mean = macro(counts.values())
    return Scores(
        {ACCURACY: 100.0 * right / max(len(annotated), 1), MACRO: mean[F1]},
        len(annotated),
        {name: row.row() for name, row in counts.items()} | {"macro": mean},
    )
