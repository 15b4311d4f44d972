"""Which moves are composed, and which streams of rows get another order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.matching import replace
from burnish.optimizer.analysis.movement import Moves, Slabs, identity
from burnish.optimizer.analysis.movement.places import spread
from burnish.optimizer.analysis.movement.streams import Edge, Stream, Streams
from burnish.optimizer.analysis.movement.tokenwise import rowwise
from burnish.optimizer.analysis.tokens.operators import NORMS, SOFTMAXES
from burnish.optimizer.naming import Names
from burnish.optimizer.pruning import prune
from burnish.passes.restructure.moves.sample import Change
from burnish.passes.restructure.moves.writer import Writer


@dataclass(eq=False)
class Group:
    """Moves that are changed together, and the streams between them that get another order."""

    edges: list[Edge] = field(default_factory=list)
    streams: dict[Stream, Leading | None] = field(default_factory=dict)

    @property
    def node(self) -> ir.Node:
        """A node to call the place by."""
        node = self.edges[0].sink.producer()
        assert node is not None
        return node

    def changes(self) -> list[Change]:
        """What becomes of each move."""
        return [self._change(edge) for edge in self.edges]

    def _change(self, edge: Edge) -> Change:
        move, order = edge.move, edge.after.order
        inner, outer = (
            self._slabs(stream, slabs)
            for stream, slabs in ((edge.before, move.inner), (edge.after, move.outer))
        )
        if edge.kept and order is not None:
            places = spread(order, move.outer.shape[-1])
            return Change(edge.sink, move, True, places, move.outer, outer)
        return Change(edge.sink, move, False, spread(edge.places(), edge.unit), inner, outer)

    def drop(self) -> None:
        """Leave everything as it is."""
        for stream in self.streams:
            stream.order = None

    def write(self, writer: Writer, names: Names, form: str) -> None:
        """Rewrite the moves, and rename what holds its rows in another order now."""
        for change, edge in zip(self.changes(), self.edges, strict=True):
            self._rewrite(change, edge, writer, names, form)
        for stream in self.streams:
            kept = {edge.sink for edge in self.edges if edge.kept}
            for value in stream.values:
                producer = value.producer()
                if producer is not None and producer.graph is not None and value not in kept:
                    self._renew(stream, value, names)
            for node in stream.nodes if self.streams[stream] is not None else ():
                if node.op_type in NORMS or node.op_type in SOFTMAXES:
                    node.attributes["axis"] = ir.AttrInt64("axis", -1)

    def _rewrite(self, change: Change, edge: Edge, writer: Writer, names: Names, form: str) -> None:
        sink = edge.sink
        source = sink if change.kept else edge.move.source
        nodes = writer.move(source, change.inner, change.places, change.outer, form)
        if not nodes and sink.is_graph_output():
            nodes = [ir.node("Identity", [source])]
        if not nodes:
            ir.convenience.replace_all_uses_with(sink, source)
            prune([sink])
        elif change.kept:
            made = nodes[-1].outputs[0]
            made.type, made.name = sink.type, sink.name
            ir.convenience.replace_all_uses_with(sink, made)
            nodes[0].replace_input_with(0, sink)
            graph, producer = self.node.graph, sink.producer()
            assert producer is not None and isinstance(graph, ir.Graph)
            graph.insert_after(producer, nodes)
            made.shape = sink.shape
            self._renew(edge.after, made, names)
        else:
            replace(sink, *nodes)
            self._renew(edge.after, nodes[-1].outputs[0], names)

    def _renew(self, stream: Stream, value: ir.Value, names: Names) -> None:
        if stream not in self.streams:
            return
        # Another value than before, so another name.
        value.name = names.free(f"{value.name}_reordered")
        leading = self.streams[stream]
        if leading is not None and value.shape is not None:
            value.shape = ir.Shape([*leading.written, value.shape[-1]])

    def _slabs(self, stream: Stream, slabs: Slabs) -> Slabs:
        """The slabs of a value of a stream from now on."""
        leading = self.streams.get(stream)
        if leading is None:
            return slabs
        return Slabs(slabs.lead, (*leading.sizes, slabs.shape[-1]))


@dataclass(frozen=True)
class Leading:
    """All sizes but the last one that the values of a stream may have as well as others.

    Attributes:
        sizes: of one slab.
        written: as the graph declares them, of all slabs.
    """

    sizes: tuple[int, ...]
    written: tuple[int | ir.SymbolicDim, ...]


def single(group: Group) -> list[Group]:
    """What is left to change of a group whose streams stay in their order."""
    edges = [edge for edge in group.edges if edge.worthwhile()]
    return [Group([edge]) for edge in edges] if group.streams else []


def groups(streams: Streams, moves: Moves) -> list[Group]:
    """What could be changed, in the order of the graph."""
    changed = set(streams.settle())
    together: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (parent := together.get(key, key)) is not key:
            key = parent
        return key

    for edge in streams.edges:
        both = [stream for stream in (edge.before, edge.after) if stream in changed]
        if len(both) == 2:
            together[root(both[0])] = root(both[1])
    found: dict[Hashable, Group] = defaultdict(Group)
    for edge in streams.edges:
        both = [stream for stream in (edge.before, edge.after) if stream in changed]
        if not both and not edge.worthwhile():
            continue
        group = found[root(both[0]) if both else edge.move.source]
        group.edges.append(edge)
        for stream in both:
            group.streams[stream] = leading(stream, streams.at(stream), moves)
    return list(found.values())


def leading(stream: Stream, edges: list[Edge], moves: Moves) -> Leading | None:
    """Sizes with which a stream needs no Reshape at an end where nothing is moved any more."""
    if stream.sized:
        return None
    for node in stream.nodes:
        data = rowwise(node, moves)
        if node.op_type == "Gemm" or data is None or len(data) != 1:
            return None
    ends = {edge.sink for edge in edges}
    if any(moves.moved(value) and value not in ends for value in stream.values):
        return None
    for edge in edges:
        move, inward = edge.move, edge.after is stream
        other, slabs = (move.source, move.inner) if inward else (edge.sink, move.outer)
        same = move.inner.shape[-1] == move.outer.shape[-1]
        if same and edge.before is not edge.after and identity(edge.places(), edge.count):
            return Leading(slabs.shape[:-1], tuple(moves.declared(other))[:-1])
    return None
