"""Values whose rows are in one order, since nodes compute them row by row, and the moves between.

A network of windows is streams of rows with moves between them: the residual stream of a stage, and
the windows of a block while its products are computed. What is computed row by row is the same in
any order, so the order of a stream is free where only moves begin and end it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.matching import readers
from burnish.optimizer.analysis.movement.moves import Move, Moves
from burnish.optimizer.analysis.movement.places import (
    Places,
    identity,
    inverted,
    rows_of,
    spread,
    strides,
    width,
)
from burnish.optimizer.analysis.movement.tokenwise import rowwise

NARROW = 8
"""Elements whose copying takes as long as finding out where a row begins."""

PLAIN = 1.5
"""How much longer a transpose of two axes takes than a copy: kernels work in blocks."""

SIZES = {"Shape", "Size"}
"""Operators that read no elements."""

FEWEST = 64
"""Elements of a slab below which a move is not looked at."""


@dataclass(eq=False)
class Stream:
    """Values whose rows are in one order.

    Attributes:
        values: computed ones, and those that moves end with.
        nodes: that compute row by row.
        fixed: why the order cannot be chosen; empty where it can.
        sized: whether a node reads the shape of a value.
        order: new row i is the old row `order[i]` of each slab; None where nothing changes.
    """

    values: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    fixed: str = ""
    sized: bool = False
    order: Places | None = None


@dataclass(eq=False)
class Edge:
    """A move from one stream to another, or to another place in the same.

    Attributes:
        sink: the value that is made.
        move: how.
        before, after: the streams.
        unit: elements that are moved together, and of which the rows of both streams consist.
    """

    sink: ir.Value
    move: Move
    before: Stream
    after: Stream
    unit: int
    _plain: float = -1.0

    def places(self) -> Places:
        """The map of units, in the orders that the streams have now."""
        found = rows_of(self.move.places, self.unit)
        if self.after.order is not None:
            found = found[spread(self.after.order, self.move.outer.shape[-1] // self.unit)]
        if self.before.order is not None:
            length = self.move.inner.shape[-1] // self.unit
            back = inverted(spread(self.before.order, length), self.count)
            assert back is not None
            found = back[found]
        return found

    @property
    def count(self) -> int:
        """Units of the source."""
        return self.move.inner.count // self.unit

    @property
    def kept(self) -> bool:
        """Whether the move stays as it is, and the rows of its result are put in order behind it.

        Kernels transpose two axes fast, but not single elements to any places.
        """
        if self.after.order is None or self.before.order is not None:
            return False
        return self._behind() < _price(self.places(), self.count, self.unit)

    def cost(self) -> float:
        """Elements that are copied, and what finding them takes."""
        return self._behind() if self.kept else _price(self.places(), self.count, self.unit)

    def worthwhile(self) -> bool:
        """Whether one move, or none, may take less than the nodes that move now."""
        nodes, shape = len(self.move.nodes), self.move.outer.shape
        if nodes < 2:
            return nodes == 1 and self.cost() == 0.0
        return self.cost() < nodes * self.move.outer.count * (1 + NARROW / shape[-1])

    def _behind(self) -> float:
        """What the move costs as it is, with a gather of rows behind it."""
        if self._plain < 0:
            found = rows_of(self.move.places, self.unit)
            self._plain = _price(found, self.count, self.unit)
        count, length = self.move.outer.count, self.move.outer.shape[-1]
        return self._plain + count * (1 + NARROW / length)

    def still(self, stream: Stream) -> Places | None:
        """The order of a stream, which is one end, in which nothing would move; None for none."""
        kept, stream.order = stream.order, None
        found = self.places()
        stream.order = kept
        outward = stream is self.before
        shape = (self.move.inner if outward else self.move.outer).shape
        length = shape[-1] // self.unit
        if width(found, self.count) % length:
            return None
        rows = rows_of(found, length)
        back = inverted(rows, self.count // length)
        return rows if outward and back is not None else back


def _price(places: Places, count: int, unit: int) -> float:
    """What moving units of so many elements costs."""
    if identity(places, count):
        return 0.0
    length = width(places, count) * unit
    if length == 1 and len(strides(places) or ()) == 2:
        return PLAIN * len(places)
    return len(places) * unit * (1 + NARROW / length)


class Streams:
    """The streams of a graph, and the moves between them."""

    def __init__(self, graph: ir.Graph, moves: Moves) -> None:
        self._moves = moves
        self._graph = graph
        self._parents: dict[ir.Value, ir.Value] = {}
        self._rowwise: dict[ir.Node, list[ir.Value]] = {}
        self._streams: dict[ir.Value, Stream] = defaultdict(Stream)
        self.edges: list[Edge] = []
        self._by_stream: dict[Stream, list[Edge]] = defaultdict(list)
        ends = self._join()
        self._collect()
        for sink in ends:
            self._connect(sink)

    def at(self, stream: Stream) -> list[Edge]:
        """The moves that begin or end at a stream."""
        return self._by_stream[stream]

    def stuck(self) -> list[tuple[ir.Value, str]]:
        """What is made by moving whole rows between orders that are both fixed, and why one is."""
        found = []
        for edge in self.edges:
            same = edge.move.inner.shape[-1] == edge.move.outer.shape[-1]
            fixed = edge.before.fixed and edge.after.fixed and edge.cost() > 0
            if same and fixed and edge.still(edge.after) is not None:
                found.append((edge.sink, edge.before.fixed))
        return found

    def settle(self) -> list[Stream]:
        """Give each stream the order in which least is moved; those whose order changes."""
        free = [item for item in self._by_stream if not item.fixed]
        changing = True
        while changing:
            changing = any([self._improve(stream) for stream in free])
        return [stream for stream in free if stream.order is not None]

    def _improve(self, stream: Stream) -> bool:
        edges = self._by_stream[stream]
        now = stream.order
        best, least = now, sum(edge.cost() for edge in edges)
        for edge in edges:
            if edge.before is not edge.after and (wanted := edge.still(stream)) is not None:
                stream.order = None if identity(wanted, len(wanted)) else wanted
                cost = sum(item.cost() for item in edges)
                if cost < least:
                    best, least = stream.order, cost
        stream.order = best
        return best is not now

    def _join(self) -> list[ir.Value]:
        """Put values whose rows stay together into one stream; what moves end with."""
        ends = []
        for node in self._graph:
            for value in node.outputs:
                if self._moves.moved(value):
                    if value.is_graph_output() or not all(
                        self._goes_on(reader) or reader.op_type in SIZES
                        for reader in readers(value)
                    ):
                        ends.append(value)
                elif (data := rowwise(node, self._moves)) is not None:
                    self._rowwise[node] = data
                    for operand in data:
                        self._unite(operand, value)
        for value in ends:
            move = self._moves.of(value)
            assert move is not None
            rows = move.inner.shape[-1] == move.outer.shape[-1]
            if rows and identity(move.places, move.inner.count):
                self._unite(value, move.source)
        return ends

    def _goes_on(self, node: ir.Node) -> bool:
        """Whether a node moves what it reads on."""
        return node.graph is self._graph and all(map(self._moves.moved, node.outputs))

    def _collect(self) -> None:
        """Fill the streams, and find out which orders are free."""
        for node in self._graph:
            for value in node.outputs:
                stream = self._of(value)
                stream.values.append(value)
                if value.is_graph_output():
                    stream.fixed = "an output is in it"
                if node in self._rowwise:
                    stream.nodes.append(node)
                elif not self._moves.moved(value):
                    stream.fixed = stream.fixed or f"{node.op_type} computes it"
                for reader in readers(value):
                    if reader.op_type in SIZES:
                        stream.sized = True
                    elif reader not in self._rowwise and not self._goes_on(reader):
                        stream.fixed = stream.fixed or f"{reader.op_type} reads it"
        for value in self._graph.inputs:
            self._of(value).fixed = "it is an input"

    def _connect(self, sink: ir.Value) -> None:
        move = self._moves.of(sink)
        assert move is not None
        inner, outer = move.inner, move.outer
        if not move.nodes and inner.shape[-1] == outer.shape[-1]:
            return  # the same rows
        ends = list(dict.fromkeys((self._of(move.source), self._of(sink))))
        if min(len(inner.shape), len(outer.shape)) < 2 or outer.count < FEWEST:
            for stream in ends:
                stream.fixed = stream.fixed or "little is moved there"
            return
        unit = math.gcd(width(move.places, inner.count), inner.shape[-1], outer.shape[-1])
        edge = Edge(sink, move, self._of(move.source), self._of(sink), unit)
        self.edges.append(edge)
        for stream in ends:
            self._by_stream[stream].append(edge)

    def _of(self, value: ir.Value) -> Stream:
        return self._streams[self._root(value)]

    def _root(self, value: ir.Value) -> ir.Value:
        path = []
        while (parent := self._parents.get(value, value)) is not value:
            path.append(value)
            value = parent
        self._parents.update(dict.fromkeys(path, value))
        return value

    def _unite(self, first: ir.Value, second: ir.Value) -> None:
        self._parents[self._root(first)] = self._root(second)
