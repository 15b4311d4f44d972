"""How operators compute shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.monomials import (
    ONE,
    Extent,
    Sizes,
    broadcast,
    divided,
    least,
    number,
    product,
)
from burnish.optimizer.analysis.size_elements import FAR, Facts, added, axes_of, integers, optional

Found = Sequence[Extent | None] | None
"""A shape; None for a size, or for all of it, where it is not known."""


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
            size = added(size, shape[axis])
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


def _shape(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    if shapes[0] is None:
        return [None]
    axes = range(len(shapes[0]))
    end = node.attributes.get_int("end", len(axes))
    return [(len(axes[node.attributes.get_int("start", 0) : end]), ())]


def _non_zero(node: ir.Node, shapes: list[Sizes | None], facts: Facts) -> Found:
    return [(len(shapes[0]), ()), None] if shapes[0] else None


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
    "Shape": _shape,
    "NonZero": _non_zero,
    "ConstantOfShape": _of_shape,
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
         "ReduceSum", "ReduceSumSquare"), _reduce,
    ),
}  # fmt: skip
