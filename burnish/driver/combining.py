"""How a plan is chosen: one pipeline, or what replicas, pipelines and groups reach together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from burnish.driver.wishes import PIPELINE, Wish
from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.certificate import certified
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.classes import Classes
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.combinations import LATENCY, THROUGHPUT, Combination, combine
from burnish.optimizer.partition.planner import plan_on
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.remedies import MOST, WORTH, remedies
from burnish.optimizer.partition.run_costs import RunCosts, Shares
from burnish.optimizer.partition.shards.costs import shard_costs

GROUPS = (2, 4, 8)
"""Sizes of groups that are tried where none is asked for."""


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
    throughput = combination.throughput if replicas > 1 else 1.0 / plan.bottleneck
    told: dict[str, Any] = {
        "objective": combination.objective,
        "throughput": throughput,
        "exact": all(item.exact for item in combination.replicas),
        "bound_reason": bound.reason,
        "bound_terms": {
            "work": bound.work, "memory": bound.memory, "operator": bound.operator,
            "transfer": bound.transfer,
        },
    }  # fmt: skip
    told |= _gap(combination, plan, costs)
    told["combined"] = _combined(combination, costs, throughput)
    told["remedies"] = [
        {"change": item.change, "where": list(item.where), "gain": item.gain}
        for item in remedies(costs, planner.seconds)
    ]
    return told


def _combined(
    combination: Combination, costs: RunCosts, throughput: float
) -> dict[str, float] | None:
    """What replicas would give in place of one pipeline, where that is more."""
    if combination.objective != PIPELINE or len(costs.cluster.devices) > MOST:
        return None
    found = combine(costs, THROUGHPUT)
    if found.throughput < WORTH * throughput:
        return None
    return {"replicas": len(found.replicas), "throughput": found.throughput}


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


def shares_of(
    wish: Wish, model: ir.Model, chain: Chain, sizes: Mapping[str, int], devices: Cluster
) -> Shares:
    """What devices of groups have of each operator, for the groups that are looked at.

    Raises:
        UsageError: groups are asked for of which the cluster has none.
    """
    most = max(len(equal) for equal in Classes(devices).devices)
    if wish.is_plain or wish.shards == 1:
        return {}
    if wish.shards is None:
        return {n: shard_costs(model, chain, sizes, n) for n in GROUPS if n <= most}
    if wish.shards > most:
        raise UsageError(
            f"--shards {wish.shards} needs as many equal devices with one link between them",
            hint=f"{most}, or another cluster",
        )
    return {wish.shards: shard_costs(model, chain, sizes, wish.shards)}
