"""A node on one rank: what a rule may change of it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Array
from burnish.optimizer.partition.shards.layout import Layout
from burnish.optimizer.partition.shards.site import Facts

COMPARING = {"Less", "Greater", "GreaterOrEqual", "And"}
"""Operators that give truths."""


@dataclass
class Local:
    """A node of a rank's graph beside the node that it was.

    Attributes:
        node: of the rank; changed.
        before: of the whole model.
        facts: of the whole model.
        rank: which one.
        wants: of each input, how the rank has it.
        gives: of each output, what is left of it.
        constants: makes initializers of the rank's graph.
    """

    node: ir.Node
    before: ir.Node
    facts: Facts
    rank: int
    wants: Sequence[Layout]
    gives: Sequence[Layout]
    constants: Constants

    def number(self, array: Array, name: str) -> ir.Value:
        """An initializer of the rank's graph."""
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        return self.constants.of(graph, f"rank.{name}", array)

    def replace(self, place: int, array: Array) -> None:
        """Give the node a constant in place of an input."""
        while len(self.node.inputs) <= place:
            self.node.resize_inputs(place + 1)
        self.node.replace_input_with(place, self.number(array, f"{self.node.op_type}.{place}"))

    def set(self, name: str, value: int) -> None:
        """Change an attribute."""
        self.node.attributes[name] = ir.AttrInt64(name, value)

    def ahead(self, operator: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
        """A new node before this one; its output."""
        return self._add(operator, inputs, attributes, after=False)

    def behind(self, operator: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
        """A new node behind this one; its output."""
        return self._add(operator, inputs, attributes, after=True)

    def _add(
        self, operator: str, inputs: Sequence[ir.Value], attributes: dict[str, Any], *, after: bool
    ) -> ir.Value:
        made = ir.node(operator, inputs, attributes)
        told = operator in COMPARING
        # Of a Where, the first input is no number.
        made.outputs[0].type = ir.TensorType(ir.DataType.BOOL) if told else inputs[-1].type
        known = [value.shape for value in inputs if value.shape is not None]
        if operator != "Unsqueeze" and known:
            made.outputs[0].shape = max(known, key=len).copy()
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        if after:
            graph.insert_after(self.node, made)
            self.node = made
        else:
            graph.insert_before(self.node, made)
        return made.outputs[0]

    def sizes(self, place: int, layout: Layout, value: ir.Value) -> None:
        """Let an input that tells the sizes of a value tell those of its part.

        Entries that stand for themselves (0, -1, 1) stay; of an axis whose size is not fixed, the
        entry is divided as the pattern that the axis repeats is.
        """
        told, shape = given(self.node, place), self.facts.shape(value)
        if not layout or told is None or shape is None:
            return
        parts = dict(layout.axes)
        have = np.array(
            [p.count(self.rank) if (p := parts.get(a)) else 1 for a in range(len(shape))]
        )
        of = np.array([p.size if (p := parts.get(a)) else 1 for a in range(len(shape))])
        tensor = ir.convenience.get_const_tensor(told)
        if tensor is not None:
            entries = np.asarray(tensor.numpy()).astype(np.int64)
            if entries.size != len(shape):  # broadcast from fewer axes, the last ones
                have, of = have[-entries.size :], of[-entries.size :]
            scaled = np.where(entries > 1, entries * have // of, entries)
            self.replace(place, scaled.astype(np.int64))
            return
        one = self.number(np.array(1, np.int64), "one")
        times = self.number(have.astype(np.int64), "part")
        over = self.number(of.astype(np.int64), "of")
        scaled_value = self.ahead("Div", [self.ahead("Mul", [told, times]), over])
        larger = self.ahead("Greater", [told, one])
        entry = self.ahead("Where", [larger, scaled_value, told])
        self.node.replace_input_with(place, entry)

    def count(self, layout: Layout, axis: int) -> int | None:
        """Elements of an axis on the rank; None where it is whole."""
        parts = layout[axis]
        return None if parts is None else parts.count(self.rank)


Fix = Callable[[Local], None]
"""Makes a node fit to the parts that it is given on a rank."""


def nothing(local: Local) -> None:
    """Operators whose inputs alone say what they do."""
