"""What would make a plan better: the same search with more memory, or with faster links."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from burnish.optimizer.errors import ResourceLimit
from burnish.optimizer.partition.cluster import Cluster, Link
from burnish.optimizer.partition.run_costs import RunCosts

WORTH = 1.01
"""The gain from which on a remedy is told."""

MOST = 16
"""Devices up to which remedies are looked for."""

FREE = Link()


@dataclass(frozen=True)
class Remedy:
    """A change of the cluster, and how many times better the best plan is then.

    Attributes:
        change: `memory` or `link`.
        where: a kind of device by its first name; or the two ends of a link, or nothing for that
            between any two, or the word node for that within nodes.
    """

    change: str
    where: tuple[str, ...]
    gain: float


def remedies(costs: RunCosts, seconds: Callable[[RunCosts], float]) -> list[Remedy]:
    """What helps the most, first.

    Args:
        costs: on the cluster as it is.
        seconds: of the best plan for costs, as its purpose counts them.
    """
    if len(costs.cluster.devices) > MOST:
        return []
    before = seconds(costs)
    found = []
    for change, where, cluster in _changes(costs.cluster):
        try:
            gain = before / seconds(costs.on(cluster))
        except ResourceLimit:
            continue
        if gain >= WORTH:
            found.append(Remedy(change, where, gain))
    return sorted(found, key=lambda item: -item.gain)


def _changes(cluster: Cluster) -> Iterator[tuple[str, tuple[str, ...], Cluster]]:
    kinds = {device.kind: device for device in reversed(cluster.devices)}
    for kind, first in kinds.items():
        if math.isfinite(first.memory):
            devices = tuple(
                replace(item, memory=math.inf) if item.kind == kind else item
                for item in cluster.devices
            )
            yield "memory", (first.name,), replace(cluster, devices=devices)
    if cluster.link != FREE:
        yield "link", (), replace(cluster, link=FREE)
    if cluster.inside not in (None, FREE):
        yield "link", ("node",), replace(cluster, inside=FREE)
    for index, item in enumerate(cluster.links):
        links = list(cluster.links)
        links[index] = replace(item, link=FREE)
        yield "link", (item.first, item.second), replace(cluster, links=tuple(links))
