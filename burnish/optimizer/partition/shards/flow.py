"""Layouts of values: from what products add up in parts, back to weights that are stored in parts.

As in GSPMD (Xu et al. 2021), a few layouts are given and those of other values follow, operator by
operator. Here they follow backwards: what is wanted of a result says what is needed of the inputs.
Where an operator cannot be run in parts it is run whole on every rank, and its result taken in
parts, so that nothing is ever wrong by being wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.partition.shards.layout import WHOLE, Layout, Parts, joined
from burnish.optimizer.partition.shards.rules import rule_of
from burnish.optimizer.partition.shards.rules.gathers import read_of
from burnish.optimizer.partition.shards.site import Facts, Site


@dataclass(frozen=True)
class Goal:
    """A place whose layout is given.

    Attributes:
        node: it computes the place.
        wants: of a sum, or of rows of a table, the layouts of the node's inputs; its result is
            then a part of a sum on each rank.
        gives: of columns, the layout of the node's first output, which ranks gather.
        share: of its work, what the rank has that has most.
    """

    node: ir.Node
    wants: tuple[Layout, ...] = ()
    gives: Layout = WHOLE
    share: float = 1.0

    @property
    def adds(self) -> bool:
        """Whether results are summed over ranks, and not put beside each other."""
        return bool(self.wants)

    @property
    def gathers(self) -> bool:
        """Whether ranks put results beside each other within a run, since others read them."""
        return not self.adds and bool(self.node.outputs[0].uses())


@dataclass
class Flow:
    """What follows from some goals.

    Attributes:
        wants: of each node that is given anything in parts, the layouts of its inputs.
        gives: of each value that is in parts, its layout.
        units: what parts cut that belongs together, and of how many elements.
        broken: whether something is wanted that cannot be taken.
    """

    wants: dict[ir.Node, list[Layout]] = field(default_factory=dict)
    gives: dict[ir.Value, Layout] = field(default_factory=dict)
    units: set[tuple[int, int]] = field(default_factory=set)
    broken: bool = False

    def share(self, node: ir.Node) -> float:
        """Of a node's work, what the rank has that has most."""
        return max((self.gives.get(value, WHOLE).share for value in node.outputs), default=1.0)


class Sweep:
    """Finds what follows from goals in one graph.

    Args:
        graph: in order; constants are initializers.
        facts: of it.
        ranks: how many.
    """

    def __init__(self, graph: ir.Graph, facts: Facts, ranks: int) -> None:
        self.graph, self.facts, self.ranks = graph, facts, ranks
        self.place = {node: index for index, node in enumerate(graph)}
        self._outputs = set(graph.outputs)

    def run(self, goals: Iterable[Goal]) -> Flow:
        """The layouts that follow; only of what is in parts."""
        flow, known = Flow(), {goal.node: goal for goal in goals}
        waiting = [-self.place[node] for node in known]
        heapq.heapify(waiting)
        nodes, done = list(self.place), set()
        while waiting:
            node = nodes[-heapq.heappop(waiting)]
            if node in done:
                continue
            done.add(node)
            wants = self._wants(node, known.get(node), flow)
            if wants is None:
                continue
            flow.wants[node] = list(wants)
            for value, layout in zip(node.inputs, wants, strict=True):
                maker = value.producer() if value is not None else None
                if layout and maker is not None and maker in self.place:
                    heapq.heappush(waiting, -self.place[maker])
        self._settle(flow, known)
        return flow

    def _wants(self, node: ir.Node, goal: Goal | None, flow: Flow) -> Sequence[Layout] | None:
        """What a node needs of its inputs; None where it is run whole."""
        if goal is not None and goal.adds:
            return goal.wants
        wanted = [self._demand(value, flow) for value in node.outputs]
        if goal is not None:
            wanted[0] = goal.gives
        said = [layout for layout in wanted if layout is not None]
        mixed = node.op_type != "Split" and not all(said)
        rule = rule_of(node.domain, node.op_type)
        if not any(said) or mixed or rule is None:
            return None
        site = Site(node, self.facts, self.ranks, wanted)
        wants = rule[0](site)
        flow.units |= site.units
        if wants is None or not self._legal(site, wants):
            return None
        for place, value in enumerate(node.outputs):
            layout = wanted[place] if wanted[place] is not None else site.gives.get(place)
            if layout and not (goal is not None and goal.gathers and place == 0):
                flow.gives[value] = layout
        return wants

    def _legal(self, site: Site, wants: Sequence[Layout]) -> bool:
        """Whether each rank has something of each input, and outputs are what they may be."""
        for value, layout in zip(site.node.inputs, wants, strict=True):
            for axis, parts in layout.axes:
                shape = self.facts.shape(value)
                if value is None or shape is None or axis >= len(shape):
                    return False
                pattern = not self.facts.fixed(value, axis)
                if (shape[axis] % parts.size if pattern else shape[axis] != parts.size) != 0:
                    return False
                if pattern and shape[axis] == parts.size:
                    return False
                if site.node.op_type != "Concat" and not parts.mask.any(axis=1).all():
                    return False
        for place, value in enumerate(site.node.outputs):
            given, wanted = site.gives.get(place), site.wanted[place]
            if wanted is not None and given is not None and given != wanted:
                return False
            if value in self._outputs and given and not portable(given):
                return False
        return True

    def _demand(self, value: ir.Value, flow: Flow) -> Layout | None:
        """What all readers together want of a value; None where anything will do."""
        found: Layout | None = None
        loose: list[tuple[ir.Node, Layout]] = []
        for node, index in value.uses():
            if node.op_type == "Shape" and not node.domain and node in self.place:
                continue
            if node in flow.wants:
                layout = flow.wants[node][index]
            else:
                read = self._read(node) if index == 0 else WHOLE
                if read:
                    loose.append((node, read))
                    continue
                layout = WHOLE
            found = layout if found is None else joined(found, layout)
        if not found:
            return WHOLE if loose or found is not None else None
        for node, read in loose:
            found = joined(found, read)
            flow.wants[node] = [read, *(WHOLE for _ in node.inputs[1:])]
        return found if value not in self._outputs or portable(found) else WHOLE

    def _read(self, node: ir.Node) -> Layout:
        """What a node reads of its first input, where that is a part of an axis."""
        value = node.inputs[0] if node in self.place and node.inputs else None
        read = read_of(node, self.facts) if value is not None else {}
        return Layout.of(
            {
                axis: Parts.of(np.tile(mask, (self.ranks, 1)))
                for axis, mask in read.items()
                if value is not None and self.facts.fixed(value, axis)
            }
        )

    def _settle(self, flow: Flow, known: Mapping[ir.Node, Goal]) -> None:
        """Find what inputs and constants are given as, and whether all can be taken of it."""
        values = {value: None for node in flow.wants for value in node.inputs if value is not None}
        for value in values:
            if value.producer() is None and value.const_value is None:
                layout = self._demand(value, flow)
                if layout:
                    flow.gives[value] = layout
            has = flow.gives.get(value, WHOLE)
            for node, index in value.uses():
                if node in flow.wants and value.const_value is None:
                    self._meet(flow, node, index, has)

    def _meet(self, flow: Flow, node: ir.Node, index: int, has: Layout) -> None:
        """Let a reader of a part of an axis read it of what is there; mark what cannot be."""
        wants = flow.wants[node][index]
        if wants == has:
            return
        value = node.inputs[index]
        assert value is not None
        read = read_of(node, self.facts) if index == 0 else {}
        if read and _agree(has, wants, read):
            flow.wants[node][index] = has
            return
        for axis in {axis for axis, _ in (*has.axes, *wants.axes)}:
            if has[axis] == wants[axis]:
                continue
            less = has[axis] is not None and wants[axis] is None
            flow.broken |= less or not self.facts.fixed(value, axis)


def _agree(has: Layout, wants: Layout, read: Mapping[int, np.ndarray]) -> bool:
    """Whether two layouts are alike in what is read."""
    axes = {axis for axis, _ in (*has.axes, *wants.axes)}
    for axis in axes:
        one, other = has[axis], wants[axis]
        if one == other:
            continue
        if axis not in read or other is None:
            return False
        there = one.mask if one is not None else np.ones_like(other.mask)
        if not (there[:, read[axis]] == other.mask[:, read[axis]]).all():
            return False
    return True


def portable(layout: Layout) -> bool:
    """Whether a port can be in these parts: ranges of one axis."""
    return len(layout.axes) == 1 and layout.axes[0][1].ranges() is not None
