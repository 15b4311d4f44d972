"""What is the same for every row of a batch is computed once: it is expanded late, or never."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.sizes import ONE, Shape, Sizes, broadcast, declared
from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.pruning import prune

ELEMENTWISE = {
    *("Abs", "Cast", "Identity", "Neg", "Not", "Relu", "Sign"),
    *("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Where"),
    *("And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
}
"""Operators that broadcast their operands, and give each element the same bits wherever it stands.

Exp, Tanh and their kin do not: a kernel computes the last few elements in another way.
"""


@dataclass(frozen=True)
class HoistConstants(Pass):
    """Compute on what was not expanded yet, and drop expansions that the reader does by itself.

    Before:
        `Where(Expand(mask, [b, 1, s, s]), 0, lowest)` for a mask `[b, 1, 1, s]`;
        `rows + Expand(places, [b, s, d])`; `rows + Gather(table, Expand(ids, [b, s]))` for ids
        `[1, s]`; `Expand(inverse, [b, d, 1]) @ positions`; an `Expand` to the shape at hand.
    After:
        `Expand(Where(mask, 0, lowest), [b, 1, s, s])`; `rows + places`;
        `rows + Gather(table, ids)`; `inverse @ positions`; nothing.
    Refuses when:
        The sizes are not known well enough to prove that nothing else changes shape, or the other
        operands are as large as what is expanded, so that nothing would be saved.
    Numerics:
        Exact: the same operations on the same numbers, fewer times.
    """

    name = "hoist-constants"
    phase = Phase.RESTRUCTURE
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        nodes = [
            node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            if node.op_type == "Expand" and node.domain == ""
        ]
        if not nodes:
            return Outcome()
        hoister = _Hoister(Sizes.of(model), deque(nodes))
        while hoister.queue:
            hoister.settle(hoister.queue.popleft())
        detail = f"{hoister.dropped} expansions dropped, {hoister.sunk} moved"
        done = hoister.dropped + hoister.sunk
        return Outcome(done, tuple(hoister.refusals), detail=detail)


@dataclass
class _Expansion:
    """An `Expand`, and how it changes the dimensions of its source."""

    node: ir.Node
    source: ir.Value
    target: ir.Value
    small: Shape
    large: Shape

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    def changes_nothing(self) -> bool:
        """Whether the source has the dimensions of the output already."""
        return self.small == self.large

    def widened(self, behind: int = 0) -> list[int]:
        """Axes, counted from the last (-1), that may be longer in the output than in the source.

        `behind` is the number of axes that follow by now.
        """
        rank = len(self.large)
        small = (ONE,) * (rank - len(self.small)) + self.small
        return [axis - rank - behind for axis in range(rank) if small[axis] != self.large[axis]]

    def made_good(self, others: Shape, behind: int = 0) -> bool:
        """Whether operands of these dimensions widen what they meet as far as the `Expand` does."""
        deep = len(self.small) == len(self.large) or len(others) >= len(self.large) + behind
        return deep and all(
            -axis <= len(others) and others[axis] == self.large[axis + behind]
            for axis in self.widened(behind)
        )

    def saves(self, others: Shape) -> bool:
        """Whether the source and operands of these dimensions lack an axis that is expanded."""
        rank = len(self.large)
        small = (ONE,) * (rank - len(self.small)) + self.small
        return any(
            small[axis] == ONE and (-axis > len(others) or others[axis] == ONE)
            for axis in self.widened()
        )


@dataclass
class _Hoister:
    """Moves the expansions in `queue`, which grows by those that it makes."""

    sizes: Sizes
    queue: deque[ir.Node]
    dropped: int = 0
    sunk: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def settle(self, node: ir.Node) -> None:
        """Move one expansion past its readers, or drop it, as far as that is proven right."""
        if node.graph is None:  # it went with the last of its readers
            return
        found = self._expansion(node)
        if found is None:
            if any(use.node.op_type in ELEMENTWISE for use in node.outputs[0].uses()):
                self.refusals.append(Refusal(label(node), "its sizes are not known"))
            return
        before = self.dropped + self.sunk
        if found.changes_nothing() and not found.output.is_graph_output():
            ir.convenience.replace_all_uses_with(found.output, found.source)
            self.dropped += 1
        else:
            for reader in dict.fromkeys(use.node for use in found.output.uses()):
                if reader.graph is node.graph and reader.domain == "":
                    self._pass(found, reader)
        if self.dropped + self.sunk > before:
            prune(node.outputs)

    def _expansion(self, node: ir.Node) -> _Expansion | None:
        source, target = node.inputs
        assert source is not None and target is not None
        small, large = self.sizes.shape(source), self.sizes.shape(node.outputs[0])
        if small is None or large is None:
            return None
        return _Expansion(node, source, target, small, large)

    def _pass(self, found: _Expansion, reader: ir.Node) -> None:
        if reader.op_type == "Gather":
            self._pass_lookup(found, reader)
        elif reader.op_type == "MatMul":
            self._pass_product(found, reader)
        elif reader.op_type in ELEMENTWISE:
            self._pass_elementwise(found, reader)

    def _pass_elementwise(self, found: _Expansion, reader: ir.Node) -> None:
        others = self._others(found, reader)
        if others is None:
            self._refuse(found, "the sizes of what meets it are not known")
        elif found.made_good(others):
            _read_instead(reader, found.output, found.source)
            self.dropped += 1
        elif found.saves(others):
            self._sink(found, reader)
        else:
            self._refuse(found, f"{reader.op_type} may need the size, as far as the graph says")

    def _refuse(self, found: _Expansion, reason: str) -> None:
        self.refusals.append(Refusal(label(found.node), reason))

    def _others(self, found: _Expansion, reader: ir.Node) -> Shape | None:
        """The dimensions of a reader's other operands together; None where one is not known."""
        others = [value for value in reader.inputs if value not in (None, found.output)]
        shapes = [self.sizes.shape(value) for value in others]
        return broadcast(shapes) if shapes else ()

    def _sink(self, found: _Expansion, reader: ir.Node) -> None:
        """Let the reader compute on the source, and expand what it gives."""
        graph = reader.graph
        assert isinstance(graph, ir.Graph)
        _read_instead(reader, found.output, found.source)
        small = reader.outputs[0]
        late = ir.node("Expand", [small, found.target])
        large = late.outputs[0]
        large.type, large.shape, name = small.type, small.shape, small.name
        graph.insert_after(reader, late)
        ir.convenience.replace_all_uses_with(small, large, replace_graph_outputs=True)
        late.replace_input_with(0, small)
        self.sizes.copy(small, large)
        self._resize(reader)
        # Another value than before, so another name.
        small.name, large.name = f"{name}_narrow", name
        self.queue.append(late)
        self.sunk += 1

    def _resize(self, reader: ir.Node) -> None:
        """Work out anew what a node gives that reads something smaller."""
        value = reader.outputs[0]
        value.shape = None
        self.sizes.visit(reader)
        if (shape := self.sizes.shape(value)) is not None:
            value.shape = declared(shape)

    def _pass_lookup(self, found: _Expansion, reader: ir.Node) -> None:
        """Look up rows for the source, where all readers of the rows widen them by themselves."""
        table = self.sizes.shape(reader.inputs[0])
        axis = reader.attributes.get_int("axis", 0)
        if reader.inputs[1] is not found.output or table is None or axis != 0:
            return
        rows, behind = reader.outputs[0], len(table) - 1
        uses = list(rows.uses())
        for use in uses:
            alone = [value for value in use.node.inputs if value is rows]
            others = [self.sizes.shape(item) for item in use.node.inputs if item is not rows]
            good = use.node.op_type in ELEMENTWISE and use.node.domain == "" and len(alone) == 1
            together = broadcast(others)
            if not good or together is None or not found.made_good(together, behind):
                return
        if not uses or rows.is_graph_output():
            return
        reader.replace_input_with(1, found.source)
        self._resize(reader)
        rows.name = f"{rows.name}_narrow"
        self.dropped += 1

    def _pass_product(self, found: _Expansion, reader: ir.Node) -> None:
        """Drop the expansion of a left operand over a batch that the right one has."""
        right = self.sizes.shape(reader.inputs[1])
        if reader.inputs[0] is not found.output or reader.inputs[1] is found.output:
            return
        if right is None or len(found.small) < 2 or any(axis > -3 for axis in found.widened()):
            return
        if found.made_good(right):
            reader.replace_input_with(0, found.source)
            self.dropped += 1


def _read_instead(reader: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for index, value in enumerate(reader.inputs):
        if value is old:
            reader.replace_input_with(index, new)
