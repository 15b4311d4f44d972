"""Which values of a graph are needed for some tokens only, found from their readers backwards.

A value that all readers want the same tokens of is computed for these. One that is also needed
whole is computed whole, and the tokens are taken from it: no work is done twice.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.selection.axes import target
from burnish.optimizer.analysis.selection.needs import needs
from burnish.optimizer.analysis.selection.places import Place, Request
from burnish.optimizer.analysis.selection.selections import Root, Selection, find
from burnish.optimizer.analysis.sizes import Shape, Sizes

WHOLE = None
"""A demand for all of a value."""

Demand = tuple[Selection, Place] | None

VIEWS = ("Gather", "Slice", "Split")
"""Operators that take a part: selecting before one of a value that is there anyway is no gain."""

ROUNDS = 8
"""Attempts to find a plan; each takes back what the one before could not carry out."""


@dataclass(frozen=True)
class Narrowed:
    """A node that is to be computed for some tokens only.

    Attributes:
        selection: these tokens.
        place: where they are in its results.
        parts: by operand, where they are; None for operands that are needed whole.
        target: new target of a Reshape.
    """

    selection: Selection
    place: Place
    parts: list[Place | None]
    target: Shape | None = None


@dataclass(frozen=True)
class Stop:
    """A node before which a selection stays, and why."""

    selection: Selection
    node: ir.Node
    reason: str


@dataclass
class Plan:
    """What is to be computed for some tokens only.

    Attributes:
        nodes: by node, in the graph's order.
        values: their results, with the selection and the place in them.
        roots: selections by the node that makes them.
        stops: nodes that a selection does not pass.
    """

    nodes: dict[ir.Node, Narrowed] = field(default_factory=dict)
    values: dict[ir.Value, tuple[Selection, Place]] = field(default_factory=dict)
    roots: list[Root] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)


class Planner:
    """Plans for one graph; nodes in subgraphs need what they read whole."""

    def __init__(self, graph: ir.Graph, sizes: Sizes) -> None:
        self._graph = graph
        self._sizes = sizes
        self._axes = axes_by_symbol(graph, sizes)
        self.roots = {node: root for node in graph if (root := find(node, sizes)) is not None}

    def plan(self, ignored: set[Selection]) -> Plan:
        """The plan for all selections but those ignored; empty where there is none."""
        fixed: set[ir.Node] = set()
        for _ in range(ROUNDS):
            sweep = _Sweep(self._graph, self._sizes, self._axes, fixed)
            plan = sweep.run(
                {node: root for node, root in self.roots.items() if root.selection not in ignored}
            )
            if not (wrong := _not_carried_out(plan)):
                return plan
            fixed |= wrong
        return Plan()


def axes_by_symbol(graph: ir.Graph, sizes: Sizes) -> dict[Hashable, tuple[ir.Value, int]]:
    """An input and its axis for each symbolic dimension."""
    found: dict[Hashable, tuple[ir.Value, int]] = {}
    for value in graph.inputs:
        for axis, size in enumerate(sizes.shape(value) or ()):
            if size.name is not None:
                found.setdefault(size.name, (value, axis))
    return found


def _not_carried_out(plan: Plan) -> set[ir.Node]:
    """Nodes that cannot, or should not, take their tokens from operands that stay whole."""
    wrong = set()
    for node, narrowed in plan.nodes.items():
        for index, (value, place) in enumerate(zip(node.inputs, narrowed.parts, strict=True)):
            if place is None or value is None or value in plan.values:
                continue
            if place.merged or (node.op_type in VIEWS and index == 0):
                wrong.add(node)
    return wrong


class _Sweep:
    """One walk from the outputs of a graph to its inputs."""

    def __init__(
        self,
        graph: ir.Graph,
        sizes: Sizes,
        axes: dict[Hashable, tuple[ir.Value, int]],
        fixed: set[ir.Node],
    ) -> None:
        self._graph, self._sizes, self._axes, self._fixed = graph, sizes, axes, fixed
        self._roots: dict[ir.Node, Root] = {}
        self._demands: dict[ir.Value, Demand] = {}
        self._plan = Plan()

    def run(self, roots: dict[ir.Node, Root]) -> Plan:
        """The plan, which may hold nodes that cannot be carried out."""
        self._roots = roots
        found: list[tuple[ir.Node, Narrowed]] = []
        for node in reversed(self._graph):
            wanted = self._wanted(node)
            narrowed = self._narrow(node, *wanted) if isinstance(wanted, tuple) else None
            if narrowed is not None:
                found.append((node, narrowed))
                tokens = (narrowed.selection, narrowed.place)
                self._plan.values.update(dict.fromkeys(results(node), tokens))
                for value, place in zip(node.inputs, narrowed.parts, strict=True):
                    self._demand(value, (narrowed.selection, place) if place else WHOLE)
            elif wanted != "nothing":
                self._read(node)
        self._plan.nodes = dict(reversed(found))
        return self._plan

    def _wanted(self, node: ir.Node) -> Demand | str:
        """What is wanted of a node's results: some tokens, all, or "nothing"."""
        wanted: list[Demand] = []
        for value in results(node):
            inner = any(use.node.graph is not node.graph for use in value.uses())
            if inner or value.is_graph_output():
                return WHOLE
            if value in self._demands:
                wanted.append(self._demands[value])
        if any(
            value in self._demands or value.is_graph_output()
            for value in node.outputs[len(results(node)) :]
        ):
            wanted = wanted or [WHOLE]
        if not wanted:
            return "nothing"
        return wanted[0] if all(item == wanted[0] for item in wanted) else WHOLE

    def _narrow(self, node: ir.Node, selection: Selection, place: Place) -> Narrowed | None:
        """How the node is computed for these tokens; None where it is computed for all."""
        if node in self._fixed or (selection.by_row and not place.varies):
            return None
        request = Request(node, place, self._sizes)
        parts = needs(request)
        goal = None
        if not isinstance(parts, str) and node.op_type == "Reshape":
            assert parts[0] is not None
            goal = target(request, parts[0], selection.count, self._axes)
            if goal is None:
                parts = "the target of Reshape cannot be written for fewer tokens"
        if isinstance(parts, str):
            self._plan.stops.append(Stop(selection, node, parts))
            return None
        return Narrowed(selection, place, parts, goal)

    def _read(self, node: ir.Node) -> None:
        """Demand what a node reads that is computed for all tokens, or that selects some."""
        root = self._roots.get(node)
        for index, value in enumerate(node.inputs):
            if index == 0 and root is not None:
                self._plan.roots.append(root)
                self._demand(root.source, (root.selection, root.place))
            elif not (node.op_type == "Shape" and self._told_otherwise(node, value)):
                self._demand(value, WHOLE)

    def _told_otherwise(self, node: ir.Node, value: ir.Value | None) -> bool:
        """Whether a value's shape is known without it."""
        shape = self._sizes.shape(value)
        if shape is None or node.outputs[0].is_graph_output():
            return False
        return all(atom in self._axes for size in shape for atom in size.atoms)

    def _demand(self, value: ir.Value | None, demand: Demand) -> None:
        if value is not None:
            same = self._demands.get(value, demand) == demand
            self._demands[value] = demand if same else WHOLE


def results(node: ir.Node) -> tuple[ir.Value, ...]:
    """The results that tokens are taken from; an attention's new keys and values stay whole."""
    return tuple(node.outputs[:1]) if node.op_type == "Attention" else tuple(node.outputs)
