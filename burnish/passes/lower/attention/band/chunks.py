"""Long sequences without a window: some queries at a time, so that memory has a bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.costs.scores import CHUNK
from burnish.passes.lower.attention.band.band import Said
from burnish.passes.lower.attention.band.blocks import Blocks
from burnish.passes.lower.attention.band.form import Attended
from burnish.passes.lower.attention.band.said import WrittenSaid
from burnish.passes.lower.attention.products import all_keys
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer

INT64, FLOAT, BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL

TOO_MANY = 1 << 31
"""Bytes of the scores of all queries with all keys from which on some are taken at a time.

Up to there they were 1.0 to 1.9 times faster at once (12 heads of 64, 1,024 to 4,096 tokens).
"""


@dataclass(frozen=True)
class InChunks:
    """A loop over queries, as many at a time as `most` bytes of scores allow; the mask likewise.

    Attributes:
        most: see above.
    """

    most: int = CHUNK
    name: str = "chunks of queries"

    def longest(self, site: Site) -> int:
        """The tokens of one sequence up to which one turn is enough."""
        return int((self.most / 4 / site.facts.heads) ** 0.5)

    def build(self, writer: Writer, site: Site, said: Said) -> Results:
        """Write it before the attention's node."""
        facts, node = site.facts, site.node
        query, (key, value) = site.query, all_keys(writer, site)
        if facts.flat:
            query = writer.apart(node, query, facts.heads)
        rows, keys = site.lengths(writer)
        scores = writer.integers(self.most // 4 // facts.heads)
        batch = writer.length(node, site.query, 0)
        once = writer.node(node, "Mul", [batch, keys], kind=INT64)
        turn = writer.node(node, "Div", [scores, once], kind=INT64)
        turn = writer.node(node, "Max", [turn, writer.integers(1)], kind=INT64)
        turn = writer.node(node, "Min", [turn, rows], kind=INT64)
        above = writer.node(node, "Add", [rows, turn], kind=INT64)
        above = writer.node(node, "Sub", [above, writer.integers(1)], kind=INT64)
        count = writer.node(node, "Div", [above, turn], kind=INT64)
        count = writer.node(node, "Squeeze", [count], kind=INT64)
        empty = writer.node(node, "SequenceEmpty", [], dtype=FLOAT.value)
        empty.type = ir.SequenceType(ir.TensorType(FLOAT))
        always = writer.constant("always", np.array(True))
        body = _Body(site, said, (query, key, value), (turn, rows, keys)).graph()
        loop = ir.Node("", "Loop", [count, always, empty], [ir.AttrGraph("body", body)])
        writer.graph.insert_before(node, loop)
        loop.outputs[0].type = ir.SequenceType(ir.TensorType(FLOAT))
        result = writer.node(node, "ConcatFromSequence", [loop.outputs[0]], axis=2)
        if facts.flat:
            result = writer.together(node, result, facts.heads * facts.value_size)
        return Results(result, facts.flat, (key, value) if facts.kept else None)


class _Body:
    """One turn of the loop: some queries attend to all keys, and join those before them."""

    def __init__(
        self,
        site: Site,
        said: Said,
        operands: tuple[ir.Value, ir.Value, ir.Value],
        sizes: tuple[ir.Value, ir.Value, ir.Value],
    ) -> None:
        self._site, self._said, self._operands = site, said, operands
        self._sizes = sizes
        name = f"{site.node.outputs[0].name}_turn"
        self._number = ir.val(name, INT64, ())
        self._going = ir.val(f"{name}_going", BOOL, ())
        kind = ir.SequenceType(ir.TensorType(FLOAT))
        self._before = ir.Value(name=f"{name}_before", type=kind)
        self._on = ir.node("Identity", [self._going])
        self._on.outputs[0].name = f"{name}_on"
        self._on.outputs[0].type = ir.TensorType(BOOL)
        self._name = name

    def graph(self) -> ir.Graph:
        """The body."""
        inputs = [self._number, self._going, self._before]
        graph = ir.Graph(inputs, [], nodes=[self._on], name="some_queries")
        writer = Writer(graph)
        rows, blocks = self._rows(writer)
        result = Attended(writer, self._site, blocks, self._on).result(rows, *self._operands[1:])
        after = writer.node(self._on, "SequenceInsert", [self._before, result])
        after.type = self._before.type
        graph.outputs.extend([self._on.outputs[0], after])
        for index, node in enumerate(item for item in graph if item is not self._on):
            node.outputs[0].name = f"{self._name}_{index}"
        for index, value in enumerate(list(graph.initializers.values())):
            graph.initializers.pop(value.name or "")
            value.name = f"{self._name}_constant_{index}"
            graph.register_initializer(value)
        return graph

    def _rows(self, writer: Writer) -> tuple[ir.Value, Blocks]:
        """The queries of this turn, and the block that they are."""
        turn, rows, keys = self._sizes
        one, axis = writer.integers(1), writer.integers(2)

        def whole(operator: str, *inputs: ir.Value) -> ir.Value:
            return writer.node(self._on, operator, [*inputs], kind=INT64)

        start = whole("Mul", whole("Reshape", self._number, one), turn)
        end = whole("Min", whole("Add", start, turn), rows)
        query = writer.node(self._on, "Slice", [self._operands[0], start, end, axis])
        zero, step = (writer.constant("number", np.array(item)) for item in (0, 1))
        places = whole("Range", whole("Squeeze", start), whole("Squeeze", end), step)
        places = whole("Unsqueeze", places, writer.integers(0, 2))
        across = whole(
            "Unsqueeze", whole("Range", zero, whole("Squeeze", keys), step), writer.integers(0, 1)
        )
        said = WrittenSaid(writer, self._site, self._said, self._on)
        bias, alive = said.at(places, across, self._said.whole)
        count = whole("Sub", end, start)
        return query, Blocks(places, across, count, keys, rows, bias, alive, self._said.by_head)
