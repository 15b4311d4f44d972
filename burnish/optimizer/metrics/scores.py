"""What the metrics give: scores of the whole, and of each class where there are classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

PRECISION, RECALL, F1, SUPPORT = "precision", "recall", "F1", "support"

Row = dict[str, float]
"""Values by the name of the measure."""


@dataclass(frozen=True)
class Scores:
    """Scores of one model on some examples.

    Attributes:
        whole: over all examples; in points, but for perplexities and counts.
        support: how much was annotated: spans, examples, or tokens.
        classes: precision, recall, F1 and support by class, and their averages, in order.
    """

    whole: Row
    support: int
    classes: dict[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """How many were right, were given, and were annotated."""

    right: int
    given: int
    annotated: int

    def row(self) -> Row:
        """Precision, recall and their harmonic mean; each 0 where it has nothing to divide by."""
        both = self.given + self.annotated
        return {
            PRECISION: 100.0 * self.right / self.given if self.given else 0.0,
            RECALL: 100.0 * self.right / self.annotated if self.annotated else 0.0,
            F1: 200.0 * self.right / both if both else 0.0,
            SUPPORT: self.annotated,
        }


def counted(
    annotated: Sequence[Iterable[tuple[str, object]]], given: Sequence[Iterable[tuple[str, object]]]
) -> dict[str, Counts]:
    """Counts by class, of things that have a class and a place in their example.

    Args:
        annotated: the things of each example, as class and place.
        given: likewise.
    """
    right, said, true = Counter[str](), Counter[str](), Counter[str]()
    for wanted, found in zip(annotated, given, strict=True):
        wanted, found = set(wanted), set(found)
        true.update(kind for kind, _ in wanted)
        said.update(kind for kind, _ in found)
        right.update(kind for kind, _ in wanted & found)
    return {kind: Counts(right[kind], said[kind], true[kind]) for kind in sorted(true | said)}


def micro(classes: Iterable[Counts]) -> Counts:
    """The counts of all classes together."""
    rows = list(classes)
    return Counts(
        sum(row.right for row in rows),
        sum(row.given for row in rows),
        sum(row.annotated for row in rows),
    )


def macro(classes: Iterable[Counts]) -> Row:
    """The mean over the classes, each with the same weight."""
    rows = [row.row() for row in classes]
    mean = {
        name: sum(row[name] for row in rows) / max(len(rows), 1) for name in (PRECISION, RECALL, F1)
    }
    return mean | {SUPPORT: sum(row[SUPPORT] for row in rows)}
