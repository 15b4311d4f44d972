"""Which places are split: where more time is saved than it takes to bring ranks together.

Each place is tried by itself, in parts that cut nothing which belongs together (heads, groups of
heads, blocks of weights): what a try finds cut is kept together in the next. Places are then taken
in the order of what they save, as long as they save more than what is taken already does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from burnish.optimizer.partition.shards.flow import Flow, Goal, Sweep
from burnish.optimizer.partition.shards.goals import Place, places
from burnish.optimizer.partition.shards.layout import WHOLE, divided
from burnish.optimizer.partition.shards.sums import delayed

FLOPS, BANDWIDTH, LINK = 1e11, 2e10, 1e10
"""Operations, bytes of weights, and bytes of results a second, as far as they decide what is split:
what is computed for a byte that is sent varies less between machines than each of them."""

TRIES = 6
"""Times that parts of a place are made anew with what they cut."""

MEETING = 5e-6
"""Seconds that it takes ranks to meet, whatever they bring."""

LEAST_WEIGHT = 4096
"""Bytes of a weight that is worth a try by itself, and a line where it stays whole."""

TIE = 0.02
"""What one place may save more than another, relative to it, and be as good."""

SMALL = 1e-9
"""Seconds that count as nothing."""


@dataclass(frozen=True)
class Choice:
    """What is split.

    Attributes:
        goals: where, in the order of the graph.
        flow: what follows.
        whole: weights of `LEAST_WEIGHT` and more that stay whole, and why.
        refused: values of which what belongs together could not be kept so, and why.
    """

    goals: tuple[Goal, ...]
    flow: Flow
    whole: Mapping[str, str]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Tried:
    """A place with the parts that save most."""

    place: Place
    goal: Goal
    flow: Flow
    net: float
    cost: float

    @property
    def worth(self) -> float:
        """What it saves; whole experts before parts of each, since their products stay large."""
        return self.net * (1.0 + TIE if self.place.node.op_type == "ReduceSum" else 1.0)

    @cached_property
    def meets(self) -> set[ir.Node | ir.Value]:
        """Nodes and weights that are in parts for it."""
        found: set[ir.Node | ir.Value] = set(self.flow.wants)
        for node, wants in self.flow.wants.items():
            for value, layout in zip(node.inputs, wants, strict=True):
                if layout and value is not None and value.const_value is not None:
                    found.add(value)
        return found


class Chooser:
    """Weighs places of one graph.

    Args:
        sweep: over it.
        flops: of its nodes, at the sizes that decide.
        sizes: bytes of values by name, at these sizes.
    """

    def __init__(
        self, sweep: Sweep, flops: Mapping[ir.Node, float], sizes: Mapping[str, float]
    ) -> None:
        self._sweep, self._flops, self._sizes = sweep, flops, sizes
        self._units: dict[int, set[int]] = {}
        self._refused: dict[ir.Node, str] = {}

    def choose(self) -> Choice:
        """The places that are worth it."""
        tried = [item for place in places(self._sweep) if (item := self._best(place)) is not None]
        tried.sort(key=lambda item: -item.worth)
        taken: list[_Tried] = []
        covered: set[ir.Node | ir.Value] = set()
        for item in tried:
            if self._gains(taken, item) if item.meets & covered else item.net > SMALL:
                taken.append(item)
                covered |= item.meets
        for item in tuple(taken):  # what others do better since
            others = [other for other in taken if other is not item]
            if any(other.meets & item.meets for other in others) and not self._gains(others, item):
                taken = others
        flow = self._together(taken)
        while flow.broken and taken:
            taken.pop()
            flow = self._together(taken)
        order = self._sweep.place
        goals = sorted((item.goal for item in taken), key=lambda goal: order[goal.node])
        refused = {node.outputs[0].name or "": why for node, why in self._refused.items()}
        return Choice(tuple(goals), flow, self._whole(flow), refused)

    def _together(self, taken: Iterable[_Tried]) -> Flow:
        return self._sweep.run(item.goal for item in taken)

    def _gains(self, taken: Sequence[_Tried], item: _Tried) -> bool:
        """Whether a place that meets others saves more than it costs beside them."""
        if any(item.goal.node is other.goal.node for other in taken):
            return False
        near = [other for other in taken if other.meets & item.meets]
        before, after = self._together(near), self._together([*near, item])
        if after.broken:
            return False
        saved = self._saved(after, [other.goal for other in (*near, item)])
        return saved - self._saved(before, [other.goal for other in near]) > item.cost + SMALL

    def _best(self, place: Place) -> _Tried | None:
        """The parts of a place that save most; None where it cannot be split."""
        best: _Tried | None = None
        units = set(self._units.get(place.size, ()))
        for _ in range(TRIES):
            parts = divided(place.size, self._sweep.ranks, units)
            if parts is None:
                least = min(units)
                self._refused[place.node] = (
                    f"{place.size // least} units of {least} for {self._sweep.ranks} ranks"
                )
                break
            cut: set[tuple[int, int]] = set()
            goal = place.goal(parts, cut)
            if goal is not None:
                flow = self._sweep.run([goal])
                cut |= flow.units
                best = self._better(best, place, goal, flow)
            scaled = {place.size * unit // of for unit, of in cut if not place.size * unit % of}
            new = {unit for unit in scaled if 1 < unit < place.size} - units
            if not new:
                break
            units |= new
        self._units.setdefault(place.size, set()).update(units)
        return best

    def _better(self, best: _Tried | None, place: Place, goal: Goal, flow: Flow) -> _Tried | None:
        if flow.broken:
            return best
        cost = (0.0 if place.port else self._sent(goal, flow) / LINK) + MEETING
        net = self._saved(flow, [goal]) - cost
        return _Tried(place, goal, flow, net, cost) if best is None or net > best.net else best

    def _sent(self, goal: Goal, flow: Flow) -> float:
        """Bytes that each rank sends for a goal: a sum is spread and gathered, columns gathered."""
        values = [goal.node.outputs[0]]
        if goal.adds:
            values = delayed(self._sweep.graph, values, flow, self._sizes).reduced
        size = sum(self._sizes.get(value.name or "", math.inf) for value in values)
        ranks = self._sweep.ranks
        return size * (2.0 if goal.adds else 1.0) * (ranks - 1) / ranks

    def _saved(self, flow: Flow, goals: Iterable[Goal]) -> float:
        """Seconds that the rank with most has less to do."""
        shares = {goal.node: goal.share for goal in goals}
        total = 0.0
        stored: set[ir.Value] = set()
        for node in flow.wants:
            share = shares.get(node, flow.share(node))
            less = 0.0
            for value in node.inputs:
                if value is not None and value.const_value is not None and value not in stored:
                    stored.add(value)
                    less += value.const_value.nbytes * (1.0 - stored_share(value, flow))
            total += self._flops.get(node, 0.0) * (1.0 - share) / FLOPS + less / BANDWIDTH
        return total

    def _whole(self, flow: Flow) -> dict[str, str]:
        found = {}
        for value in self._sweep.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < LEAST_WEIGHT or not value.uses():
                continue
            if tensor.dtype in (ir.DataType.INT64, ir.DataType.BOOL):  # positions and masks
                continue
            if stored_share(value, flow) >= 1.0:
                found[value.name or ""] = self._why(value)
        return found

    def _why(self, value: ir.Value) -> str:
        for node, _ in value.uses():
            if node in self._refused:
                return self._refused[node]
        kinds = ", ".join(sorted({node.op_type for node, _ in value.uses()}))
        return f"{kinds}: no split of it saves more than it costs"


def stored_share(value: ir.Value, flow: Flow) -> float:
    """Of a weight, what the rank stores that stores most; more than 1 where it stores it twice."""
    layouts = set()
    for node, index in value.uses():
        wants = flow.wants.get(node)
        layouts.add(wants[index] if wants is not None else WHOLE)
    return sum(layout.share for layout in layouts) if layouts else 1.0
