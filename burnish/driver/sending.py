"""What a plan's stages send each other, in as few bits as the budget and the links ask for.

Each cut has one encoding, that of what the stage before it gives. The plan is made for the bytes
that are really sent. Whether the answers bear it is found on the feeds that the stages are checked
on; where they do not, the cuts that cost most are sent in more bits, one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.planner import Plan
from burnish.optimizer.partition.wire.kinds import AUTO, FLOAT32, KINDS, gentler, rounded
from burnish.optimizer.partition.wire.ports import LEAST_OPSET
from burnish.optimizer.partition.wire.sendable import Sendable

AS_FAST = 0.01
"""What `auto` lets a plan lose for an encoding that keeps more, relative to the fastest."""

MARGIN = 0.999
"""Share of the budget that may be spent by forecast: the graph rounds in another order."""

Loss = Callable[[Sequence[str]], float]
"""The loss of the answers where the cuts are sent in these encodings."""


@dataclass(frozen=True)
class Sent:
    """How the stages of a plan send.

    Attributes:
        asked: the user's word.
        kinds: of each cut, in order.
        losses: of each cut by itself, where they were looked at.
        drop: the loss of all of them together; None where it was not looked at.
        fidelity: what the answers keep, as the report has it.
    """

    asked: str
    kinds: tuple[str, ...]
    losses: tuple[float, ...] = ()
    drop: float | None = None
    fidelity: dict[str, Any] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether everything is sent as it is."""
        return all(kind == FLOAT32 for kind in self.kinds)


class Sender:
    """What may be sent in fewer bits, over a chain and a cluster.

    Args:
        plan: makes a plan from what the chain now sends.
    """

    def __init__(
        self, chain: Chain, values: Mapping[str, Sendable], plan: Callable[[], Plan]
    ) -> None:
        self._chain, self._values, self._plan = chain, values, plan
        self.axes = {name: item.axis for name, item in values.items()}
        self._maker = {
            value.name or "": index
            for index, node in enumerate(chain.nodes)
            for value in node.outputs
        }

    def planned(self, asked: str) -> tuple[Plan, Sent]:
        """The plan for an encoding, or for that which the links need."""
        if asked != AUTO:
            plan = self._planned(asked)
            return plan, Sent(asked, (asked,) * (len(plan.stages) - 1))
        plans = {kind: self._planned(kind) for kind in KINDS}
        limit = min(plan.bottleneck for plan in plans.values()) * (1.0 + AS_FAST)
        kind = next(kind for kind in KINDS if plans[kind].bottleneck <= limit)
        return plans[kind], Sent(asked, (kind,) * (len(plans[kind].stages) - 1))

    def _planned(self, kind: str) -> Plan:
        self._chain.send({name: item.bytes_as(kind) for name, item in self._values.items()})
        return self._plan()

    def kinds_of(self, plan: Plan, kinds: Sequence[str]) -> dict[str, str]:
        """The encoding of each value that a stage gives and a later one takes."""
        ends = [stage.end for stage in plan.stages[:-1]]
        crossing = {name for end in ends for name in self._chain.crossing[end - 1]}
        found = {}
        for name in sorted(crossing & self._values.keys()):
            cut = next(i for i, end in enumerate(ends) if self._maker[name] < end)
            if kinds[cut] != FLOAT32:
                found[name] = kinds[cut]
        return found

    def crossing(self, plan: Plan, kinds: Sequence[str]) -> Callable[[str, Array], Array]:
        """What is left of a value, by its name, where the cuts are sent in these encodings."""
        told = self.kinds_of(plan, kinds)
        return lambda name, value: rounded(told.get(name, FLOAT32), value, self.axes.get(name, -1))

    def priced(self, plan: Plan, cluster: Cluster, kinds: Sequence[str]) -> Plan:
        """The plan with what its stages send in these encodings; the chain sends so from now on."""
        told = self.kinds_of(plan, kinds)
        self._chain.send({name: self._values[name].bytes_as(kind) for name, kind in told.items()})
        stages = []
        for stage, following in itertools.pairwise(plan.stages):
            carried = self._chain.carried[stage.end - 1]
            link = cluster.between(stage.device, following.device)
            stages.append(replace(stage, carried=carried, sends=link.seconds(carried)))
        return replace(plan, stages=(*stages, plan.stages[-1]))

    def needed(
        self, plan: Plan, cluster: Cluster, kinds: Sequence[str], asked: str
    ) -> tuple[str, ...]:
        """The encodings of the cuts, float32 where nothing may be sent otherwise.

        Where the choice is ours, so are those that make no stage or transfer of the plan faster.
        """
        found = list(kinds)
        limit = self.priced(plan, cluster, kinds).bottleneck * (1.0 + 1e-9)
        for cut, kind in enumerate(kinds):
            for tried in KINDS[: KINDS.index(kind)]:
                trial = [*found[:cut], tried, *found[cut + 1 :]]
                same = self.kinds_of(plan, trial) == self.kinds_of(plan, found)
                fast = self.priced(plan, cluster, trial).bottleneck <= limit
                if same or (asked == AUTO and fast):
                    found = trial
                    break
        return tuple(found)


def within(sent: Sent, max_drop: float, loss: Loss) -> Sent:
    """The same within the budget: the cuts that cost most are sent in more bits.

    Args:
        sent: as it was planned.
        max_drop: the loss that is allowed.
        loss: is asked for it as often as it takes, each time by a run of all stages.
    """
    kinds, max_drop = list(sent.kinds), max_drop * MARGIN
    drop = 0.0 if sent.is_exact else loss(kinds)
    if not drop > max_drop:
        return replace(sent, drop=drop)
    alone = [
        loss([kind if index == cut else FLOAT32 for index in range(len(kinds))])
        for cut, kind in enumerate(kinds)
    ]
    order = sorted(range(len(kinds)), key=lambda cut: -alone[cut])
    while drop > max_drop:
        # All cuts of the most bits saved first, so that none falls to float32 where float16 does.
        worst = max(order, key=lambda cut: (KINDS.index(kinds[cut]), alone[cut]))
        kinds[worst] = gentler(kinds[worst])
        drop = loss(kinds) if set(kinds) != {FLOAT32} else 0.0
    return replace(sent, kinds=tuple(kinds), losses=tuple(alone), drop=drop)


def failed(facts: Mapping[str, Any], max_drop: float) -> str:
    """Why a plan (see `driver.plan_stages`) does not send as was asked; empty where it does."""
    wire = facts.get("wire") or {}
    kinds, losses = wire.get("cuts", ()), wire.get("losses", ())
    asked = wire.get("asked", FLOAT32)
    if asked in (AUTO, FLOAT32) or asked in kinds or not losses:
        return ""
    worst = max(range(len(losses)), key=lambda cut: losses[cut])
    return (
        f"--max-drop {max_drop:g} is not met by --wire {asked}: cut {worst + 1} costs most "
        f"({losses[worst]:.3g} by itself)"
    )


def admit(asked: str, opset: int) -> None:
    """Raise where an encoding is not known, or the model is too old for it."""
    if asked not in (*KINDS, AUTO):
        raise UsageError(f"--wire {asked} is not known", hint=f"{', '.join(KINDS)} or {AUTO}")
    if asked != FLOAT32 and opset < LEAST_OPSET:
        raise UnsupportedModel(
            f"--wire {asked} needs operator set {LEAST_OPSET}, and it has {opset}",
            hint="optimize MODEL --opset 17 before",
        )
