"""What reads token ids: lookups, and comparisons with ids that the graph knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array
from burnish.optimizer.roles import TABLES
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.passes.compress.vocabulary.cuts import Refused

MEASURED = {"Shape", "Size"}
LARGEST = {"ArgMax", "ArgMin"}
"""Places of the largest or least id, which stay: ids keep their order."""

MOVED = {
    "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice", "Transpose", "Identity",
    "Tile", "Gather", "GatherElements", "GatherND", "ReduceMax", "ReduceMin", "Split", "Compress",
}  # fmt: skip
"""Operators whose first input goes on, in whole or in part."""

JOINED = {
    "Concat": None, "Where": (1, 2), "ScatterND": (0, 2), "ScatterElements": (0, 2), "Max": None,
    "Min": None,
}  # fmt: skip
"""Operators that give some ids out of several inputs; None for all inputs."""

COMPARED = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}

WRITTEN = {"Expand", "Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity", "Tile"}
"""Steps from a constant to where ids meet it."""

FILLED = "ConstantOfShape"


@dataclass
class Ids:
    """Follows ids forward to what reads them.

    Attributes:
        numbers: old ids and new ones.
        rows: size of the vocabulary.
        lookups: nodes with the inputs by which they read a table, and the table.
        edits: ids in the graph, as new ones: node, input (none for its attribute), constant.
        values: what carries ids.
    """

    numbers: Numbers
    rows: int
    lookups: dict[ir.Node, tuple[int, int]] = field(default_factory=dict)
    edits: list[tuple[ir.Node, int | None, Array]] = field(default_factory=list)
    values: dict[ir.Value, None] = field(default_factory=dict)

    def follow(self, inputs: list[ir.Value]) -> None:
        """Find all that reads the inputs.

        Raises:
            Refused: something takes ids for numbers, or hands them on where they are not followed.
        """
        stack, reads = list(inputs), []
        self.values |= dict.fromkeys(inputs)
        while stack:
            value = stack.pop()
            if value.is_graph_output():
                raise Refused(value.name or "", "ids are an output")
            for use in value.uses():
                reads.append((use.node, use.idx))
                for result in self._carried(use.node, use.idx, value):
                    if result not in self.values:
                        self.values[result] = None
                        stack.append(result)
        # Not before all that carries ids is known: they may meet each other.
        for node in dict.fromkeys(node for node, _ in reads):
            self._meet(node)

    def _carried(self, node: ir.Node, index: int, value: ir.Value) -> list[ir.Value]:
        """What a node makes of ids that are still ids."""
        home = value.graph or (maker.graph if (maker := value.producer()) else None)
        if node.graph is not home:
            raise Refused(node, "ids are read inside of a branch or a loop")
        tables = [t for i, t in TABLES.get((node.domain, node.op_type), ()) if i == index]
        if tables:
            self.lookups[node] = (index, tables[0])
            return []
        operator = node.op_type if node.domain == "" else f"{node.domain}.{node.op_type}"
        if operator in MEASURED or operator in LARGEST or operator in COMPARED:
            return []
        if operator == "Cast":
            return self._cast(node)
        joined = JOINED.get(operator, ())
        if (operator in MOVED and index == 0) or joined is None or index in joined:
            return list(node.outputs)
        raise Refused(node, f"{operator} computes with ids")

    def _cast(self, node: ir.Node) -> list[ir.Value]:
        kind = ir.DataType(node.attributes.get_int("to", 0))
        if kind is not ir.DataType.BOOL:
            return list(node.outputs)
        if self.numbers.new.get(0) != 0:
            raise Refused(node, "ids are compared with id 0, which is not kept")
        return []

    def _meet(self, node: ir.Node) -> None:
        """Renumber the constants that ids meet in a node."""
        operator = node.op_type if node.domain == "" else ""
        if operator in COMPARED:
            for index, value in enumerate(node.inputs):
                if value not in self.values:
                    self._renumber(node, index, partial(self._bound, node, index == 0))
        elif operator in JOINED and any(output in self.values for output in node.outputs):
            places = JOINED[operator]
            for index in range(len(node.inputs)) if places is None else places:
                if index < len(node.inputs) and node.inputs[index] not in self.values:
                    self._renumber(node, index, partial(self._id, node))

    def _renumber(self, node: ir.Node, index: int, number: Callable[[int], int]) -> None:
        """Plan new ids for a constant, or for what a constant is written out to."""
        value, shared = node.inputs[index], False
        while value is not None and value.const_value is None:
            maker = value.producer()
            shared |= len(value.uses()) > 1
            if maker is None or maker.domain or maker.op_type not in (*WRITTEN, FILLED):
                raise Refused(node, f"ids meet {value.name}, which is computed")
            node, index, value = maker, 0, maker.inputs[0]
            if maker.op_type == FILLED:
                given = maker.attributes.get("value")
                self._edit(maker, None, given.as_tensor() if given else None, number, shared)
                return
        if value is not None:
            self._edit(node, index, value.const_value, number, shared)

    def _edit(
        self, node: ir.Node, index: int | None, tensor: ir.TensorProtocol | None,
        number: Callable[[int], int], shared: bool,
    ) -> None:  # fmt: skip
        """Plan a constant of new ids, where they differ."""
        old = np.zeros(1, np.float32) if tensor is None else np.asarray(tensor.numpy())
        flat = [number(int(item)) for item in old.reshape(-1)]
        new = np.array(flat, old.dtype).reshape(old.shape)
        if (new == old).all():
            return
        if shared:
            raise Refused(node, "what it gives is read by others than what reads ids")
        self.edits.append((node, index, new))

    def _id(self, node: ir.Node, old: int) -> int:
        """The new number of an id that the graph puts among others."""
        if old < 0 or old >= self.rows:
            return old
        if old not in self.numbers.new:
            raise Refused(node, f"the graph makes id {old}, which is not kept")
        return self.numbers.new[old]

    def _bound(self, node: ir.Node, mirrored: bool, old: int) -> int:
        """What new ids compare with as old ones did; -1 for an id that there is no more."""
        if old < 0:
            return old
        operator = node.op_type
        if operator == "Equal":
            return self.numbers.new.get(old, -1)
        # `ids < old` and `ids >= old` ask how many are below, the others how many are not above.
        below = operator in (("Greater", "LessOrEqual") if mirrored else ("Less", "GreaterOrEqual"))
        return self.numbers.below(old) if below else self.numbers.below(old, itself=True) - 1
