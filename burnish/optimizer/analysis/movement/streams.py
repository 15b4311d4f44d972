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

from burnish.optimizer.analysis.movement.moves import Move, Moves
from burnish.optimizer.analysis.movement.places import (
    Places,
    identity,
    inverted,
    rows_of,
    spread,
    width,
)
from burnish.optimizer.analysis.movement.tokenwise import rowwise

NARROW = 4
"""Elements whose copying takes as long as finding out where a row begins."""

FEWEST = 64
"""Elements of a slab below which a move is not looked at."""


@dataclass(eq=False)
class Stream:
    """Values whose rows are in one order.

    Attributes:
        values: computed ones, and those that moves end with.
        nodes: that compute row by row.
        fixed: why the order cannot be chosen; empty where it can.
        order: new row i is the old row `order[i]` of each slab; None where nothing changes.
    """

    values: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    fixed: str = ""
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

    def cost(self) -> float:
        """Elements that are copied, and what finding them takes."""
        found = self.places()
        if identity(found, self.count):
            return 0.0
        length = width(found, self.count) * self.unit
        return self.move.outer.count * (1 + NARROW / length)

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
                        self._goes_on(use.node) for use in value.uses()
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
                for use in value.uses():
                    if use.node not in self._rowwise and not self._goes_on(use.node):
                        stream.fixed = stream.fixed or f"{use.node.op_type} reads it"
        for value in self._graph.inputs:
            self._of(value).fixed = "it is an input"

    def _connect(self, sink: ir.Value) -> None:
        move = self._moves.of(sink)
        assert move is not None
        inner, outer = move.inner, move.outer
        still = not move.nodes and inner.shape[-1] == outer.shape[-1]
        if still or min(len(inner.shape), len(outer.shape)) < 2 or outer.count < FEWEST:
            return
        unit = math.gcd(width(move.places, inner.count), inner.shape[-1], outer.shape[-1])
        edge = Edge(sink, move, self._of(move.source), self._of(sink), unit)
        self.edges.append(edge)
        for stream in {edge.before, edge.after}:
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
