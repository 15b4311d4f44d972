"""Constants that lose elements along the axis of the vocabulary, and values that have that axis.

A constant may be cut only where every reader is known to do with fewer elements. So a cut is
planned, reader by reader, and a reader that no plan knows says why it cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer import roles
from burnish.optimizer.analysis.products import label
from burnish.optimizer.computed import lazy
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer
from burnish.optimizer.naming import Names
from burnish.optimizer.pruning import prune

HANDED_ON = ("Cast", "Identity", "Transpose", "DequantizeLinear", "Reshape")
"""Operators that give a weight in another form."""


class Refused(Exception):
    """Why the vocabulary stays whole.

    Attributes:
        node: where.
        reason: in words.
    """

    def __init__(self, node: ir.Node | str, reason: str) -> None:
        super().__init__(reason)
        self.node = node if isinstance(node, str) else label(node)
        self.reason = reason


@dataclass
class Cuts:
    """What is to be cut.

    Attributes:
        rows: size of the vocabulary.
        kept: the ids that are left, ascending.
        axes: the axis that it is along, by constant.
        wide: likewise, of values that are computed; -1 for the last.
        reads: node and input that are known to do with fewer elements.
        counted: nodes whose attribute N says how many columns they have.
        edits: constants that take the place of a node's input, or of what it fills with.
    """

    rows: int
    kept: Array
    axes: dict[ir.Value, int] = field(default_factory=dict)
    wide: dict[ir.Value, int] = field(default_factory=dict)
    reads: set[tuple[ir.Node, int]] = field(default_factory=set)
    counted: list[ir.Node] = field(default_factory=list)
    edits: list[tuple[ir.Node, int | None, Array]] = field(default_factory=list)

    def operand(self, node: ir.Node, index: int, axis: int) -> None:
        """Plan to cut what a node reads, a constant or made of such, along an axis of it.

        Raises:
            Refused: that cannot be.
        """
        self.reads.add((node, index))
        value = node.inputs[index]
        assert value is not None
        if self._is_known(value, axis):
            return
        maker = value.producer()
        if maker is None:
            self._constant(node, value, axis)
        elif maker.domain == "" and maker.op_type in HANDED_ON:
            self._handed_on(maker, axis)
        else:
            raise Refused(node, f"what it reads is computed by {maker.op_type}")

    def hand_on(self, node: ir.Node, axis: int) -> None:
        """Plan with what a node makes of a weight that is cut along an axis."""
        self._handed_on(node, self._forward(node, axis))

    def _is_known(self, value: ir.Value, axis: int) -> bool:
        known = self.axes.get(value, self.wide.get(value))
        if known is not None and known != axis:
            raise Refused(value.name or "", "it is read along another axis, too")
        return known is not None

    def _constant(self, node: ir.Node, value: ir.Value, axis: int) -> None:
        tensor = value.const_value
        if tensor is None:
            raise Refused(node, f"{value.name} is no constant")
        shape = tensor.shape.numpy()
        if axis >= len(shape) or shape[axis] != self.rows:
            raise Refused(node, f"{value.name} {[*shape]} has no axis of {self.rows} there")
        self.axes[value] = axis

    def _handed_on(self, maker: ir.Node, axis: int) -> None:
        """Plan to cut what an operator reads, so that its result is cut along an axis."""
        self.wide[maker.outputs[0]] = axis
        if maker.op_type == "Transpose":
            order = maker.attributes.get_ints("perm", ())
            rank = len(order) or 2
            self.operand(maker, 0, (order or range(rank)[::-1])[axis])
            return
        if maker.op_type == "Reshape":
            self._reshaped(maker, axis)
        self.operand(maker, 0, axis)
        for index in range(1, len(maker.inputs) if maker.op_type == "DequantizeLinear" else 0):
            self._scale(maker, index, axis)

    def _reshaped(self, maker: ir.Node, axis: int) -> None:
        """Rows that are stored in blocks, as rows."""
        sizes = maker.inputs[1].const_value if maker.inputs[1] is not None else None
        if axis != 0 or sizes is None or not roles.keeps_rows(maker):
            raise Refused(maker, "it takes the rows of tokens apart")
        self.edits.append((maker, 1, np.array([len(self.kept), *sizes.numpy()[1:]], np.int64)))

    def _scale(self, maker: ir.Node, index: int, axis: int) -> None:
        """The scale or the zero of a weight: of all of it, of an axis, or of blocks."""
        value, source = maker.inputs[index], maker.inputs[0]
        if value is None or value.const_value is None or source is None:
            if value is not None:
                raise Refused(maker, "its scale is computed")
            return
        shape = value.const_value.shape.numpy()
        rank = len(source.shape) if source.shape is not None else 2
        along = maker.attributes.get_int("axis", 1) % rank
        if len(shape) == rank and along != axis:
            self.operand(maker, index, axis)
        elif len(shape) == 1 and shape[0] == self.rows and along == axis:
            self.operand(maker, index, 0)
        elif value.const_value.size != 1 and not (len(shape) == 1 and along != axis):
            raise Refused(maker, "blocks of its scales reach across tokens")

    @staticmethod
    def _forward(node: ir.Node, axis: int) -> int:
        """Where an axis is in what an operator gives."""
        if node.op_type != "Transpose":
            return axis
        order = list(node.attributes.get_ints("perm", ()) or (1, 0))
        return order.index(axis)

    def unread(self) -> list[tuple[ir.Node, int, int]]:
        """Reads of cut values that are not planned yet: node, input, and the axis there."""
        return [
            (use.node, use.idx, axis)
            for value, axis in {**self.axes, **self.wide}.items()
            for use in value.uses()
            if (use.node, use.idx) not in self.reads
        ]

    def write(self, graph: ir.Graph) -> None:
        """Cut the constants, and put the edits in place."""
        constants, names = Constants(), Names(graph)
        for value, axis in self.axes.items():
            _replace(graph, value, axis, self.kept)
        for value, axis in self.wide.items():
            # Under its old name it would be taken for what it was.
            if not value.is_graph_output():
                value.name = names.free(f"{value.name}_kept")
            if value.shape is not None:
                sizes = list(value.shape)
                sizes[axis] = len(self.kept)
                value.shape = ir.Shape(sizes)
        for node in self.counted:
            node.attributes.add(ir.AttrInt64("N", len(self.kept)))
        for node, index, array in self.edits:
            if index is None:
                node.attributes.add(ir.AttrTensor("value", ir.tensor(array)))
                continue
            old = node.inputs[index]
            assert old is not None
            name = f"{old.name}_kept"
            node.replace_input_with(index, constants.of(graph, name, array, old.dtype))
            prune([old])


def _replace(graph: ir.Graph, value: ir.Value, axis: int, kept: Array) -> None:
    """Let everybody read a constant without what is cut."""
    tensor = value.const_value
    assert tensor is not None
    shape = list(tensor.shape.numpy())
    shape[axis] = len(kept)
    smaller = lazy(shape, tensor.dtype, lambda: np.take(tensor.numpy(), kept, axis))
    new = add_initializer(graph, f"{value.name}_kept", smaller)
    ir.convenience.replace_all_uses_with(value, new)
    prune([value])
