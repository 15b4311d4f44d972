"""How a plan is chosen: one pipeline, or what replicas, pipelines and groups reach together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.certificate import certified
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.combinations import LATENCY, THROUGHPUT, Combination, combine
from burnish.optimizer.partition.planner import plan_on
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.remedies import remedies
from burnish.optimizer.partition.run_costs import RunCosts, Shares

PIPELINE = "pipeline"
"""One pipeline over the devices, whose slowest stage is the fastest."""

OBJECTIVES = (PIPELINE, THROUGHPUT, LATENCY)

GROUPS = (2, 4, 8)
"""Sizes of groups that are tried where none is asked for."""


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


def wish(objective: str | None, replicas: int | None, shards: int | None) -> Wish:
    """What is asked for by options; numbers alone are for throughput.

    Raises:
        UsageError: it means nothing.
    """
    if objective is not None and objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective} is not known", hint=", ".join(OBJECTIVES))
    for name, count in (("replicas", replicas), ("shards", shards)):
        if count is not None and count < 1:
            raise UsageError(f"--{name} is {count}, not a number from 1")
    several = any((count or 1) > 1 for count in (replicas, shards))
    if objective == PIPELINE and several:
        raise UsageError(
            "--objective pipeline is one pipeline of single devices",
            hint=f"--objective {THROUGHPUT} or {LATENCY}",
        )
    return Wish(objective or (THROUGHPUT if several else PIPELINE), replicas, shards)


@dataclass
class Planner:
    """Makes plans of a chain as it is now; the first replica's is what stages are made of.

    Attributes:
        shares: of groups of devices, by their size.
    """

    chain: Chain
    devices: Cluster
    wish: Wish
    shares: Shares = field(default_factory=dict)
    found: dict[Plan, Combination] = field(default_factory=dict)

    def costs(self) -> RunCosts:
        """Of runs of the chain."""
        single = (self.wish.shards or 1) == 1
        return RunCosts(self.chain, self.devices, self.shares, single)

    def plan(self) -> Plan:
        """The plan of the first replica."""
        if self.wish.is_plain:
            return plan_on(self.costs())
        combination = combine(self.costs(), self.wish.objective, self.wish.replicas)
        self.found[combination.replicas[0]] = combination
        return combination.replicas[0]

    def combination(self, plan: Plan) -> Combination:
        """That of which a plan is the first replica."""
        return self.found.get(plan) or Combination((plan,), PIPELINE, plan.bound)

    def seconds(self, costs: RunCosts) -> float:
        """Of the best plan for costs: of one run, or from one result to the next."""
        if self.wish.is_plain:
            return plan_on(costs).bottleneck
        found = combine(costs, self.wish.objective, self.wish.replicas)
        return found.latency if self.wish.objective == LATENCY else 1.0 / found.throughput


def verdict(planner: Planner, combination: Combination, plan: Plan) -> dict[str, Any]:
    """How good a plan is, as data.

    Args:
        planner: which made it.
        combination: which it made.
        plan: its first replica, with what is sent at last.
    """
    costs = planner.costs()
    bound, replicas = lower_bound(costs), len(combination.replicas)
    told = {
        "objective": combination.objective,
        "throughput": combination.throughput if replicas > 1 else 1.0 / plan.bottleneck,
        "exact": all(item.exact for item in combination.replicas),
        "bound_reason": bound.reason,
        "bound_terms": {
            "work": bound.work, "memory": bound.memory, "operator": bound.operator,
            "transfer": bound.transfer,
        },
    }  # fmt: skip
    told |= _gap(combination, plan, costs)
    told["remedies"] = [
        {"change": item.change, "where": list(item.where), "gain": item.gain}
        for item in remedies(costs, planner.seconds)
    ]
    return told


def _gap(combination: Combination, plan: Plan, costs: RunCosts) -> dict[str, Any]:
    """The bound and the distance from it; what is proven of all pipelines, where it is one."""
    told: dict[str, Any] = {"certified_seconds": None, "certified_gap": None}
    if combination.objective == LATENCY:
        return told | {"bound_seconds": combination.bound, "gap": combination.gap}
    if len(combination.replicas) > 1:
        return told | {"bound_seconds": 1.0 / combination.bound, "gap": combination.gap}
    bound = lower_bound(costs).seconds
    told |= {"bound_seconds": bound, "gap": plan.bottleneck / bound - 1.0 if bound else 0.0}
    if combination.objective == PIPELINE:
        proven = certified(costs, bound, plan.bottleneck)
        if proven:
            told["certified_seconds"] = proven
            told["certified_gap"] = plan.bottleneck / proven - 1.0
    return told


def group_sizes(wish: Wish, devices: Cluster) -> Sequence[int]:
    """Sizes of groups that are looked at."""
    if wish.is_plain:
        return ()
    if wish.shards is not None:
        return (wish.shards,) if wish.shards > 1 else ()
    return [size for size in GROUPS if size <= len(devices.devices)]
