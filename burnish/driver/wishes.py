"""What is asked of a plan over devices."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition.wire.kinds import FLOAT32

THROUGHPUT, LATENCY = "throughput", "latency"

PIPELINE = "pipeline"
"""One pipeline over the devices, whose slowest stage is the fastest."""

OBJECTIVES = (PIPELINE, THROUGHPUT, LATENCY)


@dataclass(frozen=True)
class Wish:
    """What is asked of a plan.

    Attributes:
        objective: one of `OBJECTIVES`.
        replicas: how many; None for as many as are best.
        shards: devices that compute each stage together; None for what is best.
    """

    objective: str = PIPELINE
    replicas: int | None = None
    shards: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether one pipeline of single devices is all that is asked for."""
        return self.objective == PIPELINE


def wish(
    objective: str | None, replicas: int | None, shards: int | None, wire: str = FLOAT32
) -> Wish:
    """What is asked for by options; numbers alone are for throughput.

    Raises:
        UsageError: it means nothing.
    """
    if objective is not None and objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective} is not known", hint=", ".join(OBJECTIVES))
    for name, count in (("replicas", replicas), ("shards", shards)):
        if count is not None and count < 1:
            raise UsageError(f"--{name} is {count}, not a number from 1")
    if (shards or 1) > 1 and wire != FLOAT32:
        raise UsageError(f"--wire {wire} is for stages of single devices", hint="without --shards")
    several = any((count or 1) > 1 for count in (replicas, shards))
    if objective == PIPELINE and several:
        raise UsageError(
            "--objective pipeline is one pipeline of single devices",
            hint=f"--objective {THROUGHPUT} or {LATENCY}",
        )
    return Wish(objective or (THROUGHPUT if several else PIPELINE), replicas, shards)
