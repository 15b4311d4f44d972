"""What a plan is: runs of the chain on devices, in order."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer.partition.cluster import Device


@dataclass(frozen=True)
class Stage:
    """Atoms start to end on a device, or on a group of equal ones that compute them together.

    Attributes:
        device: the first of the group.
        seconds: of computing, sums over the group included.
        sends: seconds in which what crosses its end is handed on; 0 for the last stage.
        carried: bytes of that.
        memory: bytes of weights and caches on each device.
        others: the rest of the group.
        reduces: seconds of `seconds` in which partial sums are added up over the group.
    """

    device: Device
    start: int
    end: int
    seconds: float
    sends: float
    carried: float
    memory: float
    others: tuple[Device, ...] = ()
    reduces: float = 0.0

    @property
    def devices(self) -> tuple[Device, ...]:
        """The group."""
        return self.device, *self.others


@dataclass(frozen=True)
class Plan:
    """Stages in order.

    Attributes:
        bound: seconds that the slowest stage of any plan takes at least; see `bound`.
        exact: whether the search left out nothing that could be better by more than `TOLERANCE`.
    """

    stages: tuple[Stage, ...]
    bound: float
    exact: bool = True

    @property
    def bottleneck(self) -> float:
        """Seconds of the slowest stage or transfer: one over the throughput, once it is full."""
        return max(max(item.seconds, item.sends) for item in self.stages)

    @property
    def latency(self) -> float:
        """Seconds of one run by itself."""
        return sum(item.seconds + item.sends for item in self.stages)

    @property
    def gap(self) -> float:
        """How much slower than the bound the slowest stage is, relative to it."""
        return self.bottleneck / self.bound - 1.0 if self.bound else 0.0

    @property
    def devices(self) -> tuple[Device, ...]:
        """All that have work, in the order of the stages."""
        return tuple(device for stage in self.stages for device in stage.devices)
