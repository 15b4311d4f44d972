"""Which columns of a table are the same: proved by dataflow, or by comparing constants exactly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.rotary.arrangement import Indices, arrangement, trailing
from burnish.optimizer.analysis.sizes import Size, Sizes

LARGEST = 1 << 26
"""Elements of the largest constant that is compared column by column."""

DEEPEST = 24
"""Operators that are looked through, one behind the other."""

ELEMENTWISE = frozenset(["Add", "Cast", "Cos", "Div", "Mul", "Neg", "Sin", "Sub"])

ODD = frozenset(["Cast", "Div", "Mul", "Neg", "Sin"])
"""Of these, the ones that give the negative for a negative operand."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def varying(shape: tuple[Size, ...], tail: int) -> tuple[int, ...]:
    """The axes before the trailing ones, counted from those backwards, of more than one element."""
    lead = shape[: max(0, len(shape) - tail)]
    return tuple(place for place, size in enumerate(reversed(lead)) if size.number != 1)


def _sign(number: int) -> int:
    return -1 if number < 0 else 1


@dataclass
class Columns:
    """Numbers columns so that those of one table that hold the same have the same number.

    A column that holds another one's negative has the negative number. What a column holds is its
    function of the axes before the trailing ones; axes of one element do not count.

    Attributes:
        sizes: of the model.
    """

    sizes: Sizes
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _found: dict[tuple[ir.Value, int], Indices | None] = field(default_factory=dict)

    def of(self, value: ir.Value, tail: int, depth: int = 0) -> Indices | None:
        """Numbers of the columns of the last `tail` axes; None where their sizes are not known."""
        key = (value, tail)
        if key not in self._found:
            self._found[key] = self._find(value, tail, depth)
        return self._found[key]

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def _find(self, value: ir.Value, tail: int, depth: int) -> Indices | None:
        shape = trailing(value, tail, self.sizes)
        if shape is None:
            return None
        tensor, node = ir.convenience.get_const_tensor(value), value.producer()
        if tensor is not None and tensor.size <= LARGEST:
            return self._of_constant(tensor, shape)
        found = None
        if node is not None and node.domain == "" and depth < DEEPEST:
            if node.op_type in ELEMENTWISE:
                found = self._of_elements(node, shape, depth)
            elif node.op_type == "Concat":
                found = self._of_parts(node, shape, depth)
            else:
                found = self._of_arranged(node, value, tail, depth)
        if found is not None:
            return found
        places = range(math.prod(shape))
        return np.array([self._number((value, tail, place)) for place in places]).reshape(shape)

    def _of_constant(self, tensor: ir.TensorProtocol, shape: tuple[int, ...]) -> Indices:
        array = tensor.numpy().reshape(-1, math.prod(shape))
        lead = tuple(size for size in tensor.shape.numpy()[: tensor.shape.rank() - len(shape)])
        lead = tuple(size for size in lead if size != 1)
        result = []
        for place in range(array.shape[1]):
            column = array[:, place]
            marked = np.flatnonzero(column)
            sign = -1 if len(marked) and column[marked[0]] < 0 else 1
            # Zero has two signs, of which the sum has one.
            content = np.ascontiguousarray(column if sign > 0 else -column) + column.dtype.type(0)
            digest = hashlib.sha256(content.tobytes()).digest()
            result.append(sign * self._number((lead, str(tensor.dtype), digest)))
        return np.array(result, np.int64).reshape(shape)

    def _of_elements(self, node: ir.Node, shape: tuple[int, ...], depth: int) -> Indices | None:
        parts, places = [], []
        for value in node.inputs:
            known = self.sizes.shape(value)
            if value is None or known is None:
                return None
            part = self.of(value, min(len(shape), len(known)), depth + 1)
            if part is None:
                return None
            parts.append(np.broadcast_to(part, shape).reshape(-1).tolist())
            places.append(varying(known, len(shape)))
        kind = node.attributes.get_int("to", 0) if node.op_type == "Cast" else 0
        if node.op_type == "Cast" and kind not in FLOATS:
            return None
        columns = []
        for row in zip(*parts, strict=True):
            sign = math.prod(_sign(number) for number in row) if node.op_type in ODD else 1
            plain = tuple(map(abs, row)) if node.op_type in (*ODD, "Cos") else row
            key = plain[0] if node.op_type == "Neg" else None
            number = key or self._number((node.op_type, kind, plain, tuple(places)))
            columns.append(-sign * number if node.op_type == "Neg" else sign * number)
        return np.array(columns, np.int64).reshape(shape)

    def _of_parts(self, node: ir.Node, shape: tuple[int, ...], depth: int) -> Indices | None:
        rank, tail = len(self.sizes.shape(node.outputs[0]) or ()), len(shape)
        axis = node.attributes.get_int("axis", 0) % rank - rank + tail
        parts = [
            self.of(value, tail, depth + 1) if value is not None else None for value in node.inputs
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or axis < 0:
            return None
        return np.concatenate(known, axis)

    def _of_arranged(self, node: ir.Node, value: ir.Value, tail: int, depth: int) -> Indices | None:
        found = arrangement(node, value, tail, self.sizes)
        source = node.inputs[0]
        if found is None or source is None:
            return None
        columns = self.of(source, found.tail, depth + 1)
        if columns is None:
            return None
        taken = columns.reshape(-1)[found.source]
        if not found.leads:
            return taken
        flat = [
            _sign(number) * self._number((value, abs(number)))
            for number in taken.reshape(-1).tolist()
        ]
        return np.array(flat, np.int64).reshape(taken.shape)
