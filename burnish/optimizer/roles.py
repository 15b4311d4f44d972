"""What an input is for, read from what the graph does with it.

Integers that index a constant table are ids; the rest is a mask, a position, a length. Names are
only the last resort, between roles that the graph cannot tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.signature import Port, Signature

TRANSPARENT = {
    "Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice",
    "Transpose", "Concat", "Where", "Clip", "Max", "Min", "Mul", "Add", "Sub",
}  # fmt: skip
"""Operators that hand an index on, whole or in part."""

TABLES = {
    ("", "Gather"): ((1, 0),),
    ("com.microsoft", "EmbedLayerNormalization"): ((0, 2), (1, 4)),
    ("com.microsoft", "GatherBlockQuantized"): ((1, 0),),
}
"""By operator: pairs of an index input and the table input that it looks up."""


class Role(Enum):
    """What an input is for."""

    IDS = "ids"
    POSITIONS = "positions"
    PLACES = "places"
    MASK = "mask"
    PAST = "past"
    NUMBERS = "numbers"
    SCALAR = "scalar"


@dataclass(frozen=True)
class Slot:
    """An input with its role.

    Attributes:
        port: name, type and shape.
        role: see `Role`.
        bound: ids and positions lie below this.
        channels: size of axis 1 that a convolution asks for; 0 where none reads the input.
        allowed: the only ids that count; empty for all.
        unknown: the one of them that stands for all others; -1 where none does.
    """

    port: Port
    role: Role
    bound: int
    channels: int = 0
    allowed: tuple[int, ...] = ()
    unknown: int = -1


def slots(model: ir.Model) -> list[Slot]:
    """The model's inputs with their roles.

    Raises:
        UnsupportedModel: where an input is a sequence, map, optional, string or of open rank.
    """
    values = {value.name: value for value in model.graph.inputs}
    return [_slot(port, values[port.name]) for port in Signature.of(model).inputs]


def _slot(port: Port, value: ir.Value) -> Slot:
    if not port.is_tensor or port.dtype == "STRING" or port.shape is None:
        raise UnsupportedModel(
            f"no values can be made up for input {port.name} of type {port.dtype}",
            hint="--data FILE or --no-check --no-measure",
        )
    bound = table_bound(value)
    name = port.name.lower()
    past = len(port.shape) >= 3 and any(key in name for key in ("past", "cache", "key_values"))
    if port.dtype.startswith(("INT", "UINT")):
        if "position" in name:
            return Slot(port, Role.POSITIONS, bound or 1 << 30)
        if "mask" in name:
            return Slot(port, Role.MASK, 2)
        if past:
            return Slot(port, Role.PAST, 0)
        if bound:
            return Slot(port, Role.IDS, bound)
        if len(port.shape) == 1 and _selects(value):
            return Slot(port, Role.PLACES, 0)
        if len(port.shape) < 2:
            return Slot(port, Role.POSITIONS if port.shape else Role.SCALAR, 1 << 30)
        return Slot(port, Role.MASK, 2)
    if port.dtype == "BOOL":
        return Slot(port, Role.MASK if len(port.shape) > 1 else Role.SCALAR, 2)
    if "mask" in name:
        return Slot(port, Role.MASK, 2)
    return Slot(port, Role.PAST if past else Role.NUMBERS, 0, _channels(value))


def table_bound(value: ir.Value) -> int:
    """Rows of the smallest constant table that the value indexes; 0 where it indexes none."""
    bounds, seen, stack = [], {value}, [value]
    while stack:
        current = stack.pop()
        for node, index in current.uses():
            for indices, table in TABLES.get((node.domain, node.op_type), ()):
                if index == indices and (rows := _rows(node, table)):
                    bounds.append(rows)
            if node.op_type in TRANSPARENT and not _is_mask_of(node, index):
                for output in node.outputs:
                    if output not in seen:
                        seen.add(output)
                        stack.append(output)
    return min(bounds, default=0)


def _selects(value: ir.Value) -> bool:
    """Whether a value says which elements of an activation are taken, from its end if negative."""
    for node, index in value.uses():
        if node.op_type in ("Gather", "GatherND") and index == 1:
            return True
        if node.op_type in TRANSPARENT and any(_selects(output) for output in node.outputs):
            return True
    return False


def _is_mask_of(node: ir.Node, index: int) -> bool:
    """Whether an operand only says which elements of the others count.

    Positions are counted over a mask and then masked by it: `CumSum(mask) * mask`.
    """
    if node.op_type == "Where":
        return index == 0
    if node.op_type != "Mul":
        return False
    other = node.inputs[1 - index]
    source = other.producer() if other is not None else None
    while source is not None and source.op_type in ("Cast", "Add", "Sub") and source.inputs[0]:
        source = source.inputs[0].producer()
    return source is not None and source.op_type == "CumSum"


def _channels(value: ir.Value) -> int:
    """The size of axis 1 where a convolution with constant weights reads the input as it is."""
    for node, index in value.uses():
        kernel = node.inputs[1].const_value if node.op_type == "Conv" and node.inputs[1] else None
        if index == 0 and kernel is not None:
            return int(kernel.shape.numpy()[1]) * node.attributes.get_int("group", 1)
    return 0


def keeps_rows(node: ir.Node) -> bool:
    """Whether an operator keeps the first axis of a constant: not every `Reshape` does."""
    if node.op_type != "Reshape":
        return True
    source, sizes = (value.const_value if value is not None else None for value in node.inputs[:2])
    if source is None or sizes is None or not sizes.size or not len(source.shape):
        return False
    return int(sizes.numpy().reshape(-1)[0]) == source.shape.numpy()[0]


def _rows(node: ir.Node, table: int) -> int:
    source = node.inputs[table]
    if source is None:
        return 0
    axis = node.attributes.get_int("axis", 0) if node.op_type == "Gather" else 0
    while source.const_value is None and (maker := source.producer()) is not None:
        # A table that is stored in another type, quantized, or in blocks keeps its rows.
        if maker.op_type not in ("Cast", "DequantizeLinear", "Identity", "Reshape"):
            return 0
        if maker.inputs[0] is None or not keeps_rows(maker):
            return 0
        source = maker.inputs[0]
    tensor = source.const_value
    shape = tensor.shape.numpy() if tensor is not None else ()
    # A row of integers stands for other ids, where those that callers have were kept.
    renumbers = tensor is not None and len(shape) == 1 and tensor.dtype.is_integer()
    return shape[axis] if len(shape) >= 2 or renumbers else 0
