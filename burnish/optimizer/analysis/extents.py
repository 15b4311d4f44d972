"""What a vector of sizes holds: numbers, and sizes of axes of other values."""

from __future__ import annotations

import onnx_ir as ir

Extent = int | str | tuple[ir.Value, int]
"""A number, the symbol of a size, or the size of an axis (counted from the first) without one."""

MADE_UP = "unk__"
"""How symbols begin that shape inference makes up, anew at each of its runs."""

LONGEST = 16
"""Elements of the largest vector that is looked at."""


def extents(value: ir.Value | None) -> list[Extent] | None:
    """The elements of an integer vector (a scalar is one of one); None where they are not known."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        small = tensor.size <= LONGEST and tensor.dtype in (ir.DataType.INT64, ir.DataType.INT32)
        return [int(number) for number in tensor.numpy().reshape(-1)] if small else None
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Shape":
        return _of_shape(node)
    if node.op_type in ("Identity", "Squeeze", "Unsqueeze", "Cast"):
        return extents(node.inputs[0])
    if node.op_type == "Concat":
        parts = [extents(part) for part in node.inputs]
        return None if None in parts else [item for part in parts if part for item in part]
    if node.op_type in ("Slice", "Gather"):
        return _of_part(node)
    if node.op_type == "Reshape":
        return extents(node.inputs[0]) if _flattens(node) else None
    if node.op_type == "ConstantOfShape":
        return _of_number(node)
    if node.op_type in ("Mul", "Where"):
        return _of_pairs(node)
    return None


def size(value: ir.Value, axis: int) -> Extent:
    """The size of an axis of a value."""
    known = value.shape[axis] if value.shape is not None else None
    if isinstance(known, int):
        return known
    symbol = known.value if known is not None else None
    return (value, axis) if symbol is None or symbol.startswith(MADE_UP) else symbol


def _of_shape(node: ir.Node) -> list[Extent] | None:
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    if maker is not None and (maker.op_type == "Concat" or _flattens(maker)):
        vector = extents(source)
        if vector is not None:
            return [len(vector)]
    if source is None or source.shape is None:
        return None
    axes = range(len(source.shape))
    start = node.attributes.get_int("start", 0)
    return [size(source, axis) for axis in axes[start : node.attributes.get_int("end", len(axes))]]


def _of_part(node: ir.Node) -> list[Extent] | None:
    """Elements that a Slice or Gather of numbers takes."""
    whole, *rest = (extents(item) for item in node.inputs)
    numbers = [item for part in rest if part for item in part]
    if whole is None or None in rest or not all(isinstance(item, int) for item in numbers):
        return None
    indices = [item for item in numbers if isinstance(item, int)]
    if node.op_type == "Gather":
        valid = all(-len(whole) <= index < len(whole) for index in indices)
        return [whole[index] for index in indices] if valid else None
    if len(rest) > 2 and rest[2] not in ([0], [-1]):
        return None
    step = indices[3] if len(rest) > 3 else 1
    return whole[indices[0] : indices[1] : step] if step > 0 else None


def _flattens(node: ir.Node) -> bool:
    """Whether a node makes a vector of all elements."""
    return node.op_type == "Reshape" and node.domain == "" and extents(node.inputs[1]) == [-1]


def _of_number(node: ir.Node) -> list[Extent] | None:
    """A vector that repeats one number."""
    count = extents(node.inputs[0])
    number = node.attributes.get_tensor("value")
    if count is None or len(count) != 1 or not isinstance(count[0], int) or count[0] > LONGEST:
        return None
    return [int(number.numpy().reshape(())) if number is not None else 0] * count[0]


def _of_pairs(node: ir.Node) -> list[Extent] | None:
    """A product of numbers, or a choice by equality: exporters write `where(size == -1, 1, size)`.

    A size is never negative, so that it differs from any negative number.
    """
    chosen = node.op_type == "Where"
    test = node.inputs[0].producer() if chosen and node.inputs[0] is not None else None
    if chosen and (test is None or test.op_type != "Equal" or test.domain != ""):
        return None
    inputs = [*test.inputs, *node.inputs[1:]] if test is not None else list(node.inputs)
    columns = [extents(item) for item in inputs]
    longest = max((len(column) for column in columns if column is not None), default=0)
    rows = []
    for column in columns:
        if column is None or len(column) not in (1, longest):
            return None
        rows.append(column * longest if len(column) == 1 else column)
    found = [
        _chosen(*items) if chosen else _multiplied(*items) for items in zip(*rows, strict=True)
    ]
    known = [item for item in found if item is not None]
    return known if len(known) == len(found) else None


def _chosen(one: Extent, two: Extent, yes: Extent, no: Extent) -> Extent | None:
    if isinstance(one, int) and isinstance(two, int):
        return yes if one == two else no
    if yes == no:
        return yes
    negative = any(isinstance(item, int) and item < 0 for item in (one, two))
    return no if negative else None


def _multiplied(one: Extent, two: Extent) -> Extent | None:
    return one * two if isinstance(one, int) and isinstance(two, int) else None
