"""How operators compute shapes, and how graphs compute with shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import onnx_ir as ir

from burnish.optimizer.analysis.size_arithmetic import (
    ONE,
    Extent,
    Sizes,
    broadcast,
    divided,
    least,
    number,
    product,
    symbol,
    written,
)

FAR = 1 << 30
"""A position past the end of any axis."""

Found = Sequence[Extent | None] | None
"""A shape; None for a size, or for all of it, where it is not known."""


class Facts(Protocol):
    """What is known so far; see `Dimensions`."""

    def of(self, value: ir.Value | None) -> Sizes | None:
        """The shape of a value."""

    def elements(self, value: ir.Value | None) -> Sizes | None:
        """What a short vector of integers holds."""


def integers(value: ir.Value | None, facts: Facts) -> list[int] | None:
    """The numbers in a vector, where all are known."""
    held = facts.elements(value)
    numbers = [number(item) for item in held] if held is not None else [None]
    return None if None in numbers else [item for item in numbers if item is not None]


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """An input that may be left out."""
    return node.inputs[index] if len(node.inputs) > index else None


def axes_of(node: ir.Node, facts: Facts, index: int = 1) -> list[int] | None:
    """The axes a node names by an input or, in older operator sets, by an attribute."""
    if optional(node, index) is not None:
        return integers(node.inputs[index], facts)
    axes = node.attributes.get_ints("axes", None)
    return list(axes) if axes is not None else None


def elements(node: ir.Node, facts: Facts) -> Sizes | None:
    """What the result of shape arithmetic holds; None where that is not known."""
    kind = node.op_type
    if kind == "Shape":
        shape = facts.of(node.inputs[0])
        if shape is None:
            return None
        end = node.attributes.get_int("end", len(shape))
        return shape[node.attributes.get_int("start", 0) : end]
    if kind in ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"):
        return facts.elements(node.inputs[0])
    if kind == "ConstantOfShape":
        return _filled(node, facts)
    if kind not in ("Concat", "Gather", "Slice", "Equal", "Where", *ARITHMETIC):
        return None
    parts = [facts.elements(value) for value in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not all(known):
        return None
    if kind == "Concat":
        return tuple(item for part in known for item in part)
    if kind in ("Gather", "Slice"):
        return _part(known, kind)
    length = max(map(len, known))
    if any(len(part) not in (1, length) for part in known):
        return None
    return _each(kind, [part * (length // len(part)) for part in known])


def _filled(node: ir.Node, facts: Facts) -> Sizes | None:
    count = integers(node.inputs[0], facts)
    fill = node.attributes.get_tensor("value", None)
    if not count or len(count) != 1 or count[0] > 16:
        return None
    return ((int(fill.numpy().reshape(-1)[0]) if fill is not None else 0, ()),) * count[0]


def _part(parts: list[Sizes], kind: str) -> Sizes | None:
    whole, *rest = parts
    numbers = [[number(item) for item in part] for part in rest]
    if any(item is None for part in numbers for item in part):
        return None
    indices = [[item for item in part if item is not None] for part in numbers]
    if kind == "Gather":
        if not all(-len(whole) <= index < len(whole) for index in indices[0]):
            return None
        return tuple(whole[index] for index in indices[0])
    if len(indices) > 2 and indices[2] not in ([0], [-1]):
        return None
    return whole[indices[0][0] : indices[1][0] : indices[3][0] if len(indices) > 3 else 1]


def _each(kind: str, parts: list[Sizes]) -> Sizes | None:
    if kind == "Where":
        tests = [number(item) for item in parts[0]]
        if None in tests:
            return None
        pairs = zip(tests, parts[1], parts[2], strict=True)
        return tuple(yes if test else no for test, yes, no in pairs)
    found = [ARITHMETIC[kind](one, other) for one, other in zip(*parts, strict=True)]
    return None if None in found else tuple(item for item in found if item is not None)


def _sum(first: Extent, second: Extent, sign: int = 1) -> Extent:
    one, other = number(first), number(second)
    if one is not None and other is not None:
        return one + sign * other, ()
    if other == 0:
        return first
    if one == 0 and sign == 1:
        return second
    parts = [written(first), written(second)]
    return symbol(f"({'+-'[sign < 0].join(sorted(parts) if sign == 1 else parts)})")


def _quotient(first: Extent, second: Extent) -> Extent:
    exact = divided(first, second)
    return exact if exact is not None else symbol(f"({written(first)}/{written(second)})")


def _equal(first: Extent, second: Extent) -> Extent | None:
    one, other = number(first), number(second)
    if one is not None and other is not None:
        return int(one == other), ()
    computed = any("(" in name for name in (*first[1], *second[1]))
    if not computed and ((one is not None and one < 0) or (other is not None and other < 0)):
        return 0, ()  # a size is no negative number
    return ONE if first == second else None


ARITHMETIC: dict[str, Callable[[Extent, Extent], Extent | None]] = {
    "Add": _sum,
    "Sub": lambda first, second: _sum(first, second, -1),
    "Mul": lambda first, second: product((first, second)),
    "Div": _quotient,
    "Equal": _equal,
}


def _transpose(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    if shapes[0] is None:
        return None
    order = node.attributes.get_ints("perm", range(len(shapes[0]))[::-1])
    return [shapes[0][axis] for axis in order]


def _reshape(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    target = facts.elements(node.inputs[1])
    if target is None:
        length = shapes[1]
        count = number(length[0]) if length else None
        return [None] * count if count is not None else None
    copied = node.attributes.get_int("allowzero", 0) == 0
    result: list[Extent | None] = []
    for axis, size in enumerate(target):
        whole = shapes[0]
        if number(size) == 0 and copied:
            result.append(whole[axis] if whole is not None and axis < len(whole) else None)
        else:
            result.append(None if number(size) == -1 else size)
    if result.count(None) == 1 and shapes[0] is not None:
        rest = product([size for size in result if size is not None])
        result[result.index(None)] = divided(product(shapes[0]), rest)
    return result


def _flatten(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    if shapes[0] is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    axis += len(shapes[0]) if axis < 0 else 0
    return [product(shapes[0][:axis]), product(shapes[0][axis:])]


def _unsqueeze(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    axes = axes_of(node, facts)
    if shapes[0] is None or axes is None:
        return None
    rank = len(shapes[0]) + len(axes)
    rest, new = iter(shapes[0]), {axis % rank for axis in axes}
    return [ONE if axis in new else next(rest) for axis in range(rank)]


def _squeeze(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    axes, shape = axes_of(node, facts), shapes[0]
    if shape is None or axes is None:
        return None
    gone = {axis % len(shape) for axis in axes}
    return [size for axis, size in enumerate(shape) if axis not in gone]


def _expand(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    target = facts.elements(node.inputs[1])
    return broadcast([shapes[0], target]) if shapes[0] is not None and target is not None else None


def _concat(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return None
    axis = node.attributes.get_int("axis", 0) % len(known[0])
    found: list[Extent | None] = [*known[0]]
    along = [number(shape[axis]) for shape in known]
    whole = len(known) == len(shapes) and None not in along
    found[axis] = (sum(size for size in along if size is not None), ()) if whole else None
    if not whole and len(known) == len(shapes):
        size = known[0][axis]
        for shape in known[1:]:
            size = _sum(size, shape[axis])
        found[axis] = size
    return found


def _slice(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    shape = shapes[0]
    if shape is None or len(node.inputs) < 3:
        return None
    axes = axes_of(node, facts, 3) if optional(node, 3) is not None else list(range(len(shape)))
    starts, ends = integers(node.inputs[1], facts), facts.elements(node.inputs[2])
    steps = integers(node.inputs[4], facts) if optional(node, 4) is not None else None
    if axes is None:
        return [None] * len(shape)
    found: list[Extent | None] = list(shape)
    for index, axis in enumerate(axes):
        step = steps[index] if steps else 1
        if starts is None or ends is None or step != 1:
            found[axis] = None
        else:
            found[axis] = _length(shape[axis], starts[index], ends[index])
    return found


def _length(size: Extent, start: int, end: Extent) -> Extent | None:
    known, stop = number(size), number(end)
    if start == 0 and (end == size or (stop is not None and stop >= FAR)):
        return size
    if known is not None and stop is not None:
        return len(range(known)[start:stop]), ()
    if known is not None and known > 1 and start == 0:
        return least(end, known)
    if (start, stop) in ((0, 1), (-1, FAR)) or (start == -1 and stop is not None and stop >= FAR):
        return ONE
    return None


def _gather(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    data, indices = shapes[0], shapes[1]
    if data is None or indices is None:
        return None
    axis = node.attributes.get_int("axis", 0) % len(data)
    return [*data[:axis], *indices, *data[axis + 1 :]]


def _gather_nd(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    data, indices = shapes[0], shapes[1]
    width = number(indices[-1]) if indices else None
    if data is None or indices is None or width is None:
        return None
    return [*indices[:-1], *data[node.attributes.get_int("batch_dims", 0) + width :]]


def _matmul(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    left, right = shapes[0], shapes[1]
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    return [*broadcast([left[:-2], right[:-2]]), left[-2], right[-1]]


def _gemm(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    left, right = shapes[0], shapes[1]
    if left is None or right is None:
        return None
    rows = left[node.attributes.get_int("transA", 0)]
    return [rows, right[1 - node.attributes.get_int("transB", 0)]]


def _reduce(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    arg = node.op_type.startswith("Arg")
    axes = [node.attributes.get_int("axis", 0)] if arg else axes_of(node, facts)
    if shapes[0] is None or not axes:
        return None
    gone = {axis % len(shapes[0]) for axis in axes}
    kept = node.attributes.get_int("keepdims", 1)
    sizes = [ONE if axis in gone else size for axis, size in enumerate(shapes[0])]
    return [size for axis, size in enumerate(sizes) if kept or axis not in gone]


def _range(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    first, limit, step = (facts.elements(value) for value in node.inputs)
    if first != ((0, ()),) or step != (ONE,) or limit is None:
        return [None]
    return limit


def _of_shape(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    return facts.elements(node.inputs[0])


RULES: dict[str, Callable[[ir.Node, list[Sizes | None], Facts], Found]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Expand": _expand,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Range": _range,
    "ConstantOfShape": _of_shape,
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
         "ReduceSum", "ReduceSumSquare"), _reduce,
    ),
}  # fmt: skip
