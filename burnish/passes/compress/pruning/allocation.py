"""Widths for all sites together: the least loss for what a run may cost, by dynamic programming.

Losses of sites add up as squared errors do that have nothing to do with each other, and costs as
times do. Which widths are best then is a knapsack with one choice for each site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

STEPS = 2000
"""Parts of the whole cost that costs are rounded up to."""


def allocate(
    losses: Mapping[str, Sequence[float]], costs: Mapping[str, Sequence[float]], budget: float
) -> dict[str, int]:
    """The index of a level for each site.

    Args:
        losses: of each level of each site, by its key; the first level is the whole site.
        costs: likewise.
        budget: that costs may add up to. Where they cannot, the cheapest levels are taken.
    """
    whole = sum(items[0] for items in costs.values()) or 1.0
    unit = whole / STEPS
    least = np.full(STEPS + 1, 0.0)
    picks: list[tuple[str, np.ndarray]] = []
    for key, items in costs.items():
        steps = [max(0, round(cost / unit)) for cost in items]
        best = np.full(STEPS + 1, np.inf)
        pick = np.zeros(STEPS + 1, np.int32)
        for index, (step, loss) in enumerate(zip(steps, losses[key], strict=True)):
            if step > STEPS:
                continue
            moved = np.full(STEPS + 1, np.inf)
            moved[step:] = least[: STEPS + 1 - step] + loss
            better = moved < best
            best[better], pick[better] = moved[better], index
        least = best
        picks.append((key, pick))
    room = min(STEPS, int(budget / unit + 1e-9))
    if not np.isfinite(least[room]):
        return {key: int(np.argmin(items)) for key, items in costs.items()}
    found: dict[str, int] = {}
    for key, pick in reversed(picks):
        found[key] = int(pick[room])
        room -= max(0, round(costs[key][found[key]] / unit))
    return found
