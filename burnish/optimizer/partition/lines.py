"""Plans as lines for the simulator: what takes how long, and on what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.simulate import Step


def lines_of(
    plans: Sequence[Plan], cluster: Cluster, slowed: Mapping[int, float] | None = None
) -> list[list[Step]]:
    """The lines of replicas, each on devices of its own.

    A stage on a group of devices takes the sums over the group as well. What leaves a node goes
    over the one link that the node has, for all of its devices; inside, each device has its own.

    Args:
        plans: of all replicas.
        cluster: whose host, where it has one, all devices share.
        slowed: factors on the seconds of stages, by their numbers from 0, in the first replica.
    """
    factors = slowed or {}
    seconds = [
        stage.seconds * (factors.get(index, 1.0) if number == 0 else 1.0)
        for number, plan in enumerate(plans)
        for index, stage in enumerate(plan.stages)
    ]
    if cluster.host is not None:
        several = any(len(plan.stages) > 1 for plan in plans)
        beside = cluster.host.handover if several else cluster.host.dispatch
        seconds = cluster.host.together(seconds, beside)
    left = iter(seconds)
    return [_line(plan.stages, list(itertools.islice(left, len(plan.stages)))) for plan in plans]


def _line(stages: Sequence[Stage], seconds: Sequence[float]) -> list[Step]:
    steps = []
    for index, (stage, took) in enumerate(zip(stages, seconds, strict=True)):
        steps.append(Step(took, stage.device.name))
        if stage.sends and index + 1 < len(stages):
            following = stages[index + 1].device
            leaves = stage.device.node and stage.device.node != following.node
            home = f"node {stage.device.node}" if leaves else stage.device.name
            steps.append(Step(stage.sends, f"link of {home}", sends=True))
    return steps
