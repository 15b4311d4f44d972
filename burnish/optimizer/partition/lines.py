"""Plans as lines for the simulator: what takes how long, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.simulate import Step


def lines_of(
    plan: Plan, cluster: Cluster, replicas: int = 1, slowed: Mapping[int, float] | None = None
) -> list[list[Step]]:
    """The lines of so many replicas of a plan, each on devices of its own.

    A stage on a group of devices takes the sums over the group as well. What leaves a node goes
    over the one link that the node has, for all of its devices; inside, each device has its own.

    Args:
        plan: of the cluster.
        cluster: whose host, where it has one, all devices share.
        replicas: how many.
        slowed: factors on the seconds of stages, by their numbers from 0, in the first replica.
    """
    seconds = []
    for replica in range(replicas):
        factors = slowed or {} if replica == 0 else {}
        seconds += [
            stage.seconds * factors.get(index, 1.0) for index, stage in enumerate(plan.stages)
        ]
    if cluster.host is not None:
        beside = cluster.host.handover if len(plan.stages) > 1 else cluster.host.dispatch
        seconds = cluster.host.together(seconds, beside)
    count = len(plan.stages)
    return [
        _line(
            plan.stages, seconds[first : first + count], f"{first // count + 1}/" * (replicas > 1)
        )
        for first in range(0, replicas * count, count)
    ]


def _line(stages: Sequence[Stage], seconds: Sequence[float], prefix: str) -> list[Step]:
    steps = []
    for index, (stage, took) in enumerate(zip(stages, seconds, strict=True)):
        steps.append(Step(took, prefix + stage.device.name))
        if stage.sends and index + 1 < len(stages):
            following = stages[index + 1].device
            leaves = stage.device.node and stage.device.node != following.node
            home = f"node {stage.device.node}" if leaves else stage.device.name
            steps.append(Step(stage.sends, f"{prefix}link of {home}", sends=True))
    return steps
