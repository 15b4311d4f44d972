"""The elements of small vectors of whole numbers, as shape arithmetic makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.sizes.size import Size, product

Contents = tuple[Size, ...]

LONGEST = 16
"""Elements of the largest vector that is looked at."""

WHOLE = (ir.DataType.INT64, ir.DataType.INT32)
KEEP = ("Identity", "Squeeze", "Unsqueeze", "Reshape")
ARITHMETIC: dict[str, Callable[[Size, Size], Size]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
}


def contents_of(value: ir.Value) -> Contents | None:
    """The elements of a constant."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size > LONGEST or tensor.dtype not in (*WHOLE, ir.DataType.BOOL):
        return None
    return tuple(Size.of(int(number)) for number in tensor.numpy().reshape(-1))


@dataclass(frozen=True)
class Reader:
    """Works out what nodes give.

    Attributes:
        elements: the elements of an input, where they are known.
        shape: the shape of an input, where it is known.
    """

    elements: Callable[[ir.Value | None], Contents | None]
    shape: Callable[[ir.Value | None], Contents | None]

    def result(self, node: ir.Node) -> Contents | None:
        """The elements of the node's output."""
        operator = node.op_type
        if operator == "Shape":
            return self._sizes(node)
        if operator == "ConstantOfShape":
            return self._filled(node)
        parts = [self.elements(value) for value in node.inputs]
        known = [part for part in parts if part is not None]
        if not known or (len(known) < len(parts) and operator not in KEEP):
            return None
        if operator in KEEP:
            return known[0] if parts[0] is not None else None
        if operator == "Cast":
            return known[0] if node.attributes.get_int("to", 0) in WHOLE else None
        if operator == "Concat":
            return tuple(item for part in known for item in part)
        if operator == "Gather":
            return _gathered(*known)
        if operator == "Slice":
            return _sliced(*known)
        if operator == "ReduceProd":
            return (product(list(known[0])),)
        return _elementwise(operator, known)

    def _sizes(self, node: ir.Node) -> Contents | None:
        shape = self.shape(node.inputs[0])
        if shape is None:
            return None
        end = node.attributes.get_int("end", len(shape))
        return shape[node.attributes.get_int("start", 0) : end]

    def _filled(self, node: ir.Node) -> Contents | None:
        """The elements of a vector of equal numbers."""
        length = self.elements(node.inputs[0])
        fill = node.attributes.get_tensor("value", None)
        if length is None or len(length) > 1 or (fill is not None and fill.dtype not in WHOLE):
            return None
        count = length[0].number if length else 1
        if fill is None or count is None or not 0 <= count <= LONGEST:
            return None
        return (Size.of(int(fill.numpy().reshape(-1)[0])),) * count


def _gathered(whole: Contents, indices: Contents) -> Contents | None:
    places = [index.number for index in indices]
    valid = all(place is not None and -len(whole) <= place < len(whole) for place in places)
    return tuple(whole[place] for place in places if place is not None) if valid else None


def _sliced(whole: Contents, *parts: Contents) -> Contents | None:
    bounds = [[item.number for item in part] for part in parts]
    if any(len(part) != 1 or part[0] is None for part in bounds) or len(bounds) < 2:
        return None
    start, end, *rest = (part[0] for part in bounds)
    if rest and rest[0] not in (0, -1):
        return None
    step = rest[1] if len(rest) > 1 else 1
    return whole[start:end:step] if step is not None and step > 0 else None


def _elementwise(operator: str, parts: list[Contents]) -> Contents | None:
    length = max(map(len, parts))
    if any(len(part) not in (1, length) for part in parts):
        return None
    rows = list(zip(*(part * (length // len(part)) for part in parts), strict=True))
    made = [_single(operator, row) for row in rows]
    return None if None in made else tuple(item for item in made if item is not None)


def _single(operator: str, row: tuple[Size, ...]) -> Size | None:
    if operator in ARITHMETIC and len(row) == 2:
        return ARITHMETIC[operator](*row)
    if operator == "Neg":
        return -row[0]
    if operator == "Div":
        natural = row[0].is_natural and row[1].is_natural and row[1].terms
        return row[0].floored(row[1]) if natural else None
    if operator == "Equal":
        return _equal(*row)
    if operator == "Where":
        condition = row[0].number
        return None if condition is None else row[1 if condition else 2]
    return None


def _equal(first: Size, second: Size) -> Size | None:
    if first == second:
        return Size.of(1)
    if first.number is not None and second.number is not None:
        return Size.of(0)
    # A size is never negative: what is compared with -1 so are axes that an Expand keeps.
    negative = [size for size in (first, second) if size.number is not None and size.number < 0]
    other = second if negative and negative[0] is first else first
    return Size.of(0) if negative and other.is_natural else None
