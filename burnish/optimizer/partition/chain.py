"""A graph as a chain: operators in order, and the values that cross each place between them.

What follows from the inputs alone with hardly any weights (masks, positions, rotations) belongs to
no link of the chain: each stage computes what it needs of that by itself, so that it does not have
to be sent.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import OPERANDS
from burnish.optimizer.analysis.costs.products import costs
from burnish.optimizer.partition.operators import kind_of
from burnish.optimizer.regions import captured, inner_nodes

Shapes = Mapping[str, tuple[int, ...]]

LITTLE = 1 << 20
"""Bytes of weights that are rather kept twice than what is computed from them sent."""

CACHE_RANK = 4
"""Axes of a cache: what a device keeps between runs."""


@dataclass(frozen=True)
class Atom:
    """One operator.

    Attributes:
        name: of its node.
        flops: of its matrix products.
        moved: bytes that it reads and writes, its weights included.
        state: bytes of caches that it is given or gives.
        kind: see `operators`.
    """

    name: str
    flops: float
    moved: float
    state: float
    kind: str = ""


class Chain:
    """The operators of a model that are cut apart, in order.

    Attributes:
        nodes: of the operators.
        atoms: what they cost.
        crossing: names of the values that cross the place behind each of them.
        carried: bytes of those.
        last_reader: of each value, the place of the last operator that reads it.
        portions: bytes of weights and caches of each operator; a weight that several read is
            divided among them, so that no set of operators has less memory than its portions.
        loose: whether shapes were not known, so that bytes or operations are missing.
    """

    def __init__(self, model: ir.Model, shapes: Shapes) -> None:
        self._shapes, self.loose = shapes, False
        flops: dict[ir.Node, float] = {}
        for item in costs(model.graph, shapes):
            self.loose |= item.flops is None
            flops[item.node] = item.flops or 0.0
        shared = _shared(model)
        self.nodes = [node for node in model.graph if node not in shared]
        self._place = {node: index for index, node in enumerate(self.nodes)}
        self.atoms = [self._atom(node, flops) for node in self.nodes]
        self.last_reader = {
            value: index for index, node in enumerate(self.nodes) for value in captured(node)
        }
        self.crossing = self._crossings()
        known = {value.name: value for node in self.nodes for value in node.outputs}
        crossing = dict.fromkeys(name for names in self.crossing for name in names)
        self._sizes = {name: float(self._bytes(known[name])) for name in crossing}
        self.carried: list[float] = []
        self.send({})
        self._weights = _Weights(self.nodes)
        pairs = zip(self._weights.portions, self.atoms, strict=True)
        self.portions = [portion + atom.state for portion, atom in pairs]
        states = itertools.accumulate((atom.state for atom in self.atoms), initial=0.0)
        self._states = list(states)

    def __len__(self) -> int:
        return len(self.atoms)

    def send(self, sizes: Mapping[str, float]) -> None:
        """Let values of these names be sent in so many bytes, and all others as they are."""
        known = self._sizes | dict(sizes)
        self.carried = [sum(known[name] for name in names) for names in self.crossing]

    def memory(self, start: int, end: int) -> float:
        """Bytes of weights and caches of atoms start to end."""
        return self._weights.of(start, end) + self._states[end] - self._states[start]

    def _atom(self, node: ir.Node, flops: Mapping[ir.Node, float]) -> Atom:
        total = sum(flops.get(item, 0.0) for item in (node, *inner_nodes(node)))
        read = [*dict.fromkeys(captured(node))]
        if node.op_type == "Gather":
            read = read[1:]  # rows of a table, not the table
        moved = sum(map(self._bytes, (*read, *node.outputs)))
        own = [item for item in read if item.is_graph_input() and self._is_own(item)]
        caches = own + [item for item in node.outputs if item.is_graph_output()]
        state = sum(self._bytes(item) for item in caches if self._rank(item) >= CACHE_RANK)
        name = node.name or node.op_type
        return Atom(name, total, float(moved), float(state), kind_of(node))

    def _is_own(self, value: ir.Value) -> bool:
        return len({use.node for use in value.uses()} & self._place.keys()) == 1

    def _rank(self, value: ir.Value) -> int:
        return len(self._shapes.get(value.name or "", value.shape or ()))

    def _bytes(self, value: ir.Value) -> int:
        if value.const_value is not None:
            return value.const_value.nbytes
        shape = self._shapes.get(value.name or "")
        if shape is None and value.shape is not None and value.shape.is_static():
            shape = tuple(int(size) for size in value.shape.numpy())
        if shape is None:
            self.loose = True
            return 0
        kind = value.dtype or ir.DataType.FLOAT
        return math.ceil(math.prod(shape) * kind.itemsize)

    def _crossings(self) -> list[tuple[str, ...]]:
        """Values made at or before each place, and read behind it."""
        starts: dict[int, list[str]] = {}
        ends: dict[int, list[str]] = {}
        readers = self.last_reader
        for index, node in enumerate(self.nodes):
            for value in node.outputs:
                if readers.get(value, index) > index:
                    starts.setdefault(index, []).append(value.name or "")
                    ends.setdefault(readers[value], []).append(value.name or "")
        alive: dict[str, None] = {}
        found = []
        for index in range(len(self.nodes)):
            for name in ends.get(index, ()):
                del alive[name]
            alive |= dict.fromkeys(starts.get(index, ()))
            found.append(tuple(alive))
        return found


class _Weights:
    """Bytes of the weights that a run of operators reads; those that several read count once."""

    def __init__(self, nodes: list[ir.Node]) -> None:
        places: dict[ir.Value, list[int]] = {}
        for index, node in enumerate(nodes):
            for value in dict.fromkeys(captured(node)):
                if value.const_value is not None and value.producer() is None:
                    places.setdefault(value, []).append(index)
        own = [0.0] * len(nodes)
        self.portions = [0.0] * len(nodes)
        self._several: list[tuple[float, list[int]]] = []
        for value, indices in places.items():
            assert value.const_value is not None
            size = float(value.const_value.nbytes)
            for index in indices:
                own[index] += size
                self.portions[index] += size / len(indices)
            if len(indices) > 1 and size:
                self._several.append((size, indices))
        self._sums = list(itertools.accumulate(own, initial=0.0))

    def of(self, start: int, end: int) -> float:
        total = self._sums[end] - self._sums[start]
        for size, places in self._several:
            inside = bisect.bisect_left(places, end) - bisect.bisect_left(places, start)
            total -= size * max(0, inside - 1)
        return total


def _shared(model: ir.Model) -> set[ir.Node]:
    """What follows from the inputs and little weights without a product; see above."""
    found: set[ir.Node] = set()
    for node in model.graph:
        values = captured(node)
        weights = sum(item.const_value.nbytes for item in values if item.const_value is not None)
        plain = node.op_type not in OPERANDS and not any(
            item.is_graph_output() for item in node.outputs
        )
        if plain and weights <= LITTLE and all(_is_given(item, found) for item in values):
            found.add(node)
    return found


def _is_given(value: ir.Value, shared: set[ir.Node]) -> bool:
    node = value.producer()
    if node is not None:
        return node in shared
    is_number = value.dtype is not None and not value.dtype.is_floating_point()
    return value.const_value is not None or is_number
