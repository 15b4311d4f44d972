"""A machine whose devices share its processors: what they cost each other, beside their work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """What was measured of a machine, by feeds that take no work and by the model itself.

    Attributes:
        handover: seconds that a feed takes a stage of a pipeline beside computing.
        dispatch: seconds that it takes a replica.
        contention: what a device takes longer while all others compute as well, relative to its
            time alone: they share the bandwidth of the memory and the clock of the processor.
    """

    handover: float = 0.0
    dispatch: float = 0.0
    contention: float = 0.0

    def together(self, seconds: Sequence[float], beside: float) -> list[float]:
        """Seconds of devices that compute side by side, from those of each alone.

        Each slows down the others for the share of the time in which it computes itself.

        Args:
            seconds: of each device for one feed.
            beside: seconds of a feed on each device that are no computing.
        """
        found = [item + beside for item in seconds]
        for _ in range(100):
            slowest = max(found)
            busy = [item / slowest if slowest else 0.0 for item in found]
            mean = [(sum(busy) - own) / max(len(busy) - 1, 1) for own in busy]  # of the others
            more = [
                item * (1.0 + self.contention * share) + beside
                for item, share in zip(seconds, mean, strict=True)
            ]
            if all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(found, more, strict=True)):
                break
            found = more
        return found
