"""Stages of equal work, which is what a plan is compared with."""

from __future__ import annotations

import bisect
import itertools

from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.partition.run_costs import RunCosts


def equal_split(chain: Chain, cluster: Cluster) -> Plan | None:
    """Stages of equal work on all devices in their order.

    Each cut is moved to where the least crosses within a tenth of a stage. None where that leaves a
    device without work, or its memory does not hold it.
    """
    devices, places = cluster.devices, _places(chain, cluster)
    if any(first >= second for first, second in itertools.pairwise(places)):
        return None
    stages = []
    for index, (start, end) in enumerate(itertools.pairwise(places)):
        device, carried, sends = devices[index], 0.0, 0.0
        if index + 1 < len(devices):
            carried = float(chain.carried[end - 1])
            sends = cluster.between(device, devices[index + 1]).seconds(carried)
        seconds = sum(
            device.seconds(atom.flops, atom.moved, atom.kind) for atom in chain.atoms[start:end]
        )
        memory = chain.memory(start, end)
        stages.append(Stage(device, start, end, seconds, sends, carried, memory))
    if any(item.memory > item.device.memory for item in stages):
        return None
    return Plan(tuple(stages), lower_bound(RunCosts(chain, cluster)).seconds)


def _places(chain: Chain, cluster: Cluster) -> list[int]:
    """Where stages start and end."""
    count, size = len(cluster.devices), len(chain)
    work = [cluster.devices[0].seconds(atom.flops, atom.moved, atom.kind) for atom in chain.atoms]
    sums = list(itertools.accumulate(work, initial=0.0))
    ends, slack = [], sums[-1] / count / 10.0
    for index in range(1, count):
        wanted = sums[-1] * index / count
        first, last = (bisect.bisect_left(sums, wanted + side) for side in (-slack, slack))
        near = range(max(first, 1), max(min(last, size - 1), max(first, 1)) + 1)
        ends.append(min(near, key=lambda end: (chain.carried[min(end, size) - 1], end)))
    return [0, *ends, size]
