"""Shapes of outputs from those of inputs, for operators that cut, join, split and move axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from burnish.optimizer.analysis.sizes.contents import Contents
from burnish.optimizer.analysis.sizes.size import ONE, Size, product

if TYPE_CHECKING:
    from burnish.optimizer.analysis.sizes.sizes import Sizes

Shape = tuple[Size, ...]

FAR = 1 << 30
"""A position past the end of any axis."""


def unknown(value: ir.Value | None, axis: int) -> Size:
    """A size that is known by its axis only; by nothing without a value."""
    return Size.atom((id(value), axis) if value is not None else object())


def transpose(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Axes are permuted."""
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return []
    order = node.attributes.get_ints("perm", tuple(reversed(range(len(shape)))))
    return [tuple(shape[axis] for axis in order)]


def reshape(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Elements in other axes; an axis that nothing is known of is an atom."""
    wanted, shape = sizes.elements(node.inputs[1]), sizes.shape(node.inputs[0])
    if wanted is not None:
        return [reshaped(shape, wanted, node)]
    rank = (sizes.shape(node.inputs[1]) or (Size.of(0),))[0].number
    return [tuple(unknown(node.outputs[0], axis) for axis in range(rank))] if rank else []


def reshaped(shape: Shape | None, wanted: Contents, node: ir.Node) -> Shape | None:
    """The shape that a Reshape of a value gives, with 0 and -1 resolved."""
    result = list(wanted)
    if not node.attributes.get_int("allowzero", 0):
        for axis, size in enumerate(result):
            if size.number == 0:
                if shape is None or axis >= len(shape):
                    return None
                result[axis] = shape[axis]
    for axis, size in enumerate(result):
        if size.number != -1:
            continue
        others = product([*result[:axis], *result[axis + 1 :]])
        rest = product(list(shape)).divided(others) if shape is not None else None
        result[axis] = rest or Size.atom((id(node.outputs[0]), axis))
    return tuple(result)


def unsqueeze(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Axes of length 1 are put in."""
    shape, axes = sizes.shape(node.inputs[0]), axes_of(node, sizes)
    if shape is None or axes is None:
        return []
    rank, rest = len(shape) + len(axes), list(shape)
    for axis in sorted(axis % rank for axis in axes):
        rest.insert(axis, ONE)
    return [tuple(rest)]


def squeeze(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Axes of length 1 are left out."""
    shape, axes = sizes.shape(node.inputs[0]), axes_of(node, sizes)
    if shape is None or axes is None:
        return []
    gone = {axis % len(shape) for axis in axes}
    return [tuple(size for axis, size in enumerate(shape) if axis not in gone)]


def axes_of(node: ir.Node, sizes: Sizes) -> list[int] | None:
    """The axes of a node, from its second input or its attribute."""
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        return numbers(sizes.elements(node.inputs[1]))
    axes = node.attributes.get_ints("axes", ())
    return list(axes) if axes else None


def numbers(elements: Contents | None) -> list[int] | None:
    """The elements where all are numbers."""
    known = [size.number for size in elements or ()]
    return None if elements is None or None in known else [int(item or 0) for item in known]


def concat(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Parts one after the other."""
    shapes = [sizes.shape(value) for value in node.inputs]
    first = shapes[0]
    if first is None or None in shapes:
        return []
    axis = node.attributes.get_int("axis", 0) % len(first)
    total = Size.of(0)
    for shape in shapes:
        total = total + shape[axis] if shape is not None else total
    return [(*first[:axis], total, *first[axis + 1 :])]


def slice_(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """A part of some axes."""
    shape = sizes.shape(node.inputs[0])
    parts = [sizes.elements(value) for value in node.inputs[1:]]
    if shape is None or len(parts) < 2:
        return []
    result, atom = list(shape), node.outputs[0]
    axes = numbers(parts[2]) if len(parts) > 2 else list(range(len(parts[0] or ())))
    steps = numbers(parts[3]) if len(parts) > 3 else [1] * len(axes or ())
    if axes is None or steps is None:
        return []
    for index, axis in enumerate(item % len(shape) for item in axes):
        start, end = (part[index] if part else None for part in parts[:2])
        size = _sliced(shape[axis], start, end, steps[index])
        result[axis] = size if size is not None else Size.atom((id(atom), axis))
    return [tuple(result)]


def _sliced(size: Size, start: Size | None, end: Size | None, step: int) -> Size | None:
    """Elements that a slice of an axis takes, where that can be told."""
    if start is None or end is None:
        return None
    if size.number is not None and start.number is not None and end.number is not None:
        return Size.of(len(range(size.number)[start.number : end.number : step]))
    limit = end.number
    last = size if limit is not None and limit >= FAR else end
    if step != 1 or not start.is_natural or not last.is_natural:
        return None
    if (size - last).is_natural and (last - start).is_natural:
        return last - start
    # A slice to another size than the axis has may be cut short by its end.
    table = start.number == 0 and limit is None and end.is_natural and (size.number or 0) > 1
    return end.least(size.number or 0) if table else None


def split(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Parts of an axis."""
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return []
    axis, count = node.attributes.get_int("axis", 0) % len(shape), len(node.outputs)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        parts = sizes.elements(node.inputs[1])
    else:
        whole = shape[axis].number
        part = -(-whole // count) if whole is not None else None
        full = [part or 0] * (count - 1)
        parts = None if whole is None else tuple(map(Size.of, [*full, whole - sum(full)]))
    if parts is None or len(parts) != count:
        return []
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def flatten(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Two axes of all."""
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return []
    axis = node.attributes.get_int("axis", 1)
    return [(product(list(shape[:axis])), product(list(shape[axis:])))]
