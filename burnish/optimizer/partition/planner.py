"""Stages of a pipeline: such that the slowest one is as fast as can be, or one run by itself.

A throughput is reached or it is not (`search`), so that the time of the slowest stage is halved
until nothing is left to gain. Among plans that are as fast but for little, the one is taken that
sends the least (`frugal`). Apart from that limit nothing is estimated: the plan is the best there
is, of stages that follow each other in the chain, on any order of devices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.optimizer.errors import ResourceLimit
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.frugal import frugal
from burnish.optimizer.partition.latency import Quickest
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.partition.run_costs import RunCosts, Shares
from burnish.optimizer.partition.search import Run, Search

__all__ = ["Plan", "Stage", "plan", "plan_on", "quickest", "quickest_on"]

TOLERANCE = 1e-4
"""How near the search comes to the best limit, relative to it."""

SLACK = 5e-3
"""What the slowest stage may lose where less is sent for it, relative to it."""


def plan(chain: Chain, cluster: Cluster, shares: Shares | None = None) -> Plan:
    """The stages whose slowest is the fastest.

    Args:
        chain: the operators.
        cluster: the devices; it is not necessary to use all of them.
        shares: sizes of groups in which equal devices may compute a stage together, and what each
            of them has of each operator then; None for single devices.

    Raises:
        ResourceLimit: the model does not fit into the memory of the devices.
    """
    return plan_on(RunCosts(chain, cluster, shares))


def plan_on(costs: RunCosts, *, relaxed: bool = True) -> Plan:
    """The same, of costs; see `lower_bound`."""
    search, bound = Search(costs), lower_bound(costs, relaxed=relaxed).seconds
    best = search.within(math.inf)
    if best is None:
        raise too_large(costs.chain, costs.cluster)
    best = _best(costs, search, best, bound)
    best = frugal(costs, best, _slowest(costs, best) * (1.0 + SLACK))
    return Plan(stages_of(costs, best), bound, search.exact)


def _best(costs: RunCosts, search: Search, best: list[Run], bound: float) -> list[Run]:
    """Runs whose slowest is the fastest: the limit is raised in growing steps, then halved."""
    low, step, high = bound * (1.0 - TOLERANCE), 2 * TOLERANCE, _slowest(costs, best)
    while high > low * (1.0 + TOLERANCE):
        middle = min((low + high) / 2.0, low * (1.0 + step) if low else math.inf)
        found = search.within(middle)
        if found is None:
            low, step = middle, 2.0 * step
        else:
            best, high, step = found, _slowest(costs, found), math.inf
    return best


def _slowest(costs: RunCosts, runs: Sequence[Run]) -> float:
    return Plan(stages_of(costs, runs), 0.0).bottleneck


def quickest(chain: Chain, cluster: Cluster, shares: Shares | None = None) -> Plan:
    """The stages through which one run by itself takes the least time; see `plan`."""
    return quickest_on(RunCosts(chain, cluster, shares))


def quickest_on(costs: RunCosts) -> Plan:
    """The same, of costs."""
    search = Quickest(costs)
    best = search.runs()
    if best is None:
        raise too_large(costs.chain, costs.cluster)
    return Plan(stages_of(costs, best), lower_bound(costs).seconds, search.exact)


def too_large(chain: Chain, cluster: Cluster) -> ResourceLimit:
    """What is told where no plan is found."""
    need = chain.memory(0, len(chain))
    have = sum(device.memory for device in cluster.devices)
    why, most = "", max(device.memory for device in cluster.devices)
    if have >= need:
        why = ": no cuts leave each what it can hold"
        size, name = max((chain.memory(i, i + 1), a.name) for i, a in enumerate(chain.atoms))
        if size > most:
            why = f": {name} alone takes {size / 1e9:.4f} GB"
    return ResourceLimit(
        f"{need / 1e9:.2f} GB of weights and caches do not fit into {have / 1e9:.2f} GB on "
        f"{len(cluster.devices)} devices{why}", hint="more devices, or --int8",
    )  # fmt: skip


def stages_of(costs: RunCosts, runs: Sequence[Run]) -> tuple[Stage, ...]:
    """Runs as stages, on the devices of each class in their order."""
    left = [list(devices) for devices in costs.classes.devices]
    found = []
    for number, run in enumerate(runs):
        first, *others = (left[run.unit.index].pop(0) for _ in range(run.unit.size))
        carried = sends = 0.0
        if number + 1 < len(runs):
            carried = float(costs.carried[run.end - 1])
            sends = costs.link(run.unit, runs[number + 1].unit).seconds(carried)
        times = costs.times(run.unit)
        found.append(
            Stage(
                first, run.start, run.end, float(times[run.end] - times[run.start]), sends, carried,
                costs.memory(run.unit, run.start, run.end), tuple(others),
                costs.reduces(run.unit, run.start, run.end),
            )
        )  # fmt: skip
    return tuple(found)
