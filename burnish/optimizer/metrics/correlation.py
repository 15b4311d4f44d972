"""Whether similarities are in the order of the annotated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.optimizer.contract import Array
from burnish.optimizer.metrics.scores import Scores

SPEARMAN = "Spearman"


def ranks(values: Sequence[float]) -> Array:
    """Ranks from 1 on, [n]; equal values share the mean of theirs."""
    array = np.asarray(values, np.float64)
    _, group, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Array = (last - (counts - 1) / 2.0)[group]
    return found


def score(annotated: Sequence[float], given: Sequence[float]) -> Scores:
    """Spearman's rank correlation; 0 where one side has one value only."""
    wanted, found = ranks(annotated), ranks(given)
    wanted, found = wanted - wanted.mean(), found - found.mean()
    scale = float(np.sqrt((wanted @ wanted) * (found @ found)))
    value = float(wanted @ found) / scale if scale else 0.0
    return Scores({SPEARMAN: 100.0 * value}, len(annotated))
