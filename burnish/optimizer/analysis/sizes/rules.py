"""Shapes of outputs from those of inputs, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from burnish.optimizer.analysis.sizes.contents import Contents
from burnish.optimizer.analysis.sizes.size import ONE, Size, agree, product

if TYPE_CHECKING:
    from burnish.optimizer.analysis.sizes.sizes import Sizes

Shape = tuple[Size, ...]

SAME = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "CumSum", "Dropout", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LayerNormalization",
    "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Not", "RMSNormalization", "Reciprocal",
    "Relu", "RotaryEmbedding", "Round", "Selu", "Sigmoid", "Sign", "SimplifiedLayerNormalization",
    "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu", "Trilu",
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "ScatterElements",
    "ScatterND",
}  # fmt: skip
"""Operators whose first output has the shape of their first input."""

BROADCAST = {
    "Add", "And", "BitwiseAnd", "BitwiseOr", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where",
    "Xor",
}  # fmt: skip
"""Operators on corresponding elements of all operands."""

FAR = 1 << 30
"""A position past the end of any axis."""


def shapes_of(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Shapes of the outputs, as far as this module knows the operator."""
    if node.op_type in SAME:
        return [sizes.shape(node.inputs[0])]
    if node.op_type in BROADCAST:
        shapes = [sizes.shape(value) for value in node.inputs if value is not None]
        return [broadcast(shapes, node.outputs[0])]
    rule = RULES.get(node.op_type)
    if node.op_type.startswith(("Reduce", "Arg")):
        rule = _reduce
    return rule(node, sizes) if rule is not None else []


def broadcast(shapes: Sequence[Shape | None], value: ir.Value | None = None) -> Shape | None:
    """The shape that elementwise operators give; an unknown size is an atom of `value`.

    A size that is not known is taken for what it must be for the operands to fit: one that stands
    beside a number other than 1 gives that number.
    """
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return None
    rank = max(map(len, known))
    result = []
    for axis in range(rank):
        column = [shape[axis - rank] for shape in known if len(shape) >= rank - axis]
        wide = [size for size in column if size.number != 1]
        numbers = [size for size in wide if size.number is not None]
        if not wide:
            result.append(ONE)
        elif all(agree(size, wide[0]) for size in wide):
            result.append(min(wide, key=lambda size: size != size.asked))
        else:
            result.append(numbers[0] if numbers else _unknown(value, axis))
    return tuple(result)


def _unknown(value: ir.Value | None, axis: int) -> Size:
    return Size.atom((id(value), axis) if value is not None else object())


def _matmul(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    left, right = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[1])
    if left is None or right is None or len(left) < 1 or len(right) < 2:
        return []
    lead = broadcast([left[:-2], right[:-2]], node.outputs[0])
    return [(*lead, *left[-2:-1], right[-1])] if lead is not None else []


def _gemm(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    left, right = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[1])
    if left is None or right is None:
        return []
    first = left[1 if node.attributes.get_int("transA", 0) else 0]
    return [(first, right[0 if node.attributes.get_int("transB", 0) else 1])]


def _transpose(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return []
    order = node.attributes.get_ints("perm", tuple(reversed(range(len(shape)))))
    return [tuple(shape[axis] for axis in order)]


def _reshape(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    wanted, shape = sizes.elements(node.inputs[1]), sizes.shape(node.inputs[0])
    if wanted is None:
        return []
    return [reshaped(shape, wanted, node)]


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


def _unsqueeze(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape, axes = sizes.shape(node.inputs[0]), axes_of(node, sizes)
    if shape is None or axes is None:
        return []
    rank, rest = len(shape) + len(axes), list(shape)
    for axis in sorted(axis % rank for axis in axes):
        rest.insert(axis, ONE)
    return [tuple(rest)]


def _squeeze(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
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


def _concat(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shapes = [sizes.shape(value) for value in node.inputs]
    first = shapes[0]
    if first is None or None in shapes:
        return []
    axis = node.attributes.get_int("axis", 0) % len(first)
    total = Size.of(0)
    for shape in shapes:
        total = total + shape[axis] if shape is not None else total
    return [(*first[:axis], total, *first[axis + 1 :])]


def _slice(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
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
    if step != 1 or start.number is None or start.number < 0:
        return None
    limit = end.number
    whole = end == size or (limit is not None and limit >= FAR)
    if start.number == 0 and whole:
        return size
    # A slice to another size than the axis has may be cut short by its end.
    table = start.number == 0 and limit is None and end.is_natural and (size.number or 0) > 1
    return end.least(size.number or 0) if table else None


def _split(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
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


def _gather(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape, indices = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[1])
    if shape is None or indices is None:
        return []
    axis = node.attributes.get_int("axis", 0) % len(shape)
    return [(*shape[:axis], *indices, *shape[axis + 1 :])]


def _expand(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    wanted = sizes.elements(node.inputs[1])
    return [broadcast([sizes.shape(node.inputs[0]), wanted], node.outputs[0])]


def _tile(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape, repeats = sizes.shape(node.inputs[0]), sizes.elements(node.inputs[1])
    if shape is None or repeats is None or len(shape) != len(repeats):
        return []
    return [tuple(size * count for size, count in zip(shape, repeats, strict=True))]


def _reduce(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape, axes = sizes.shape(node.inputs[0]), axes_of(node, sizes)
    if node.op_type.startswith("Arg"):
        axes = [node.attributes.get_int("axis", 0)]
    if shape is None or axes is None:
        return []
    kept, gone = node.attributes.get_int("keepdims", 1), {axis % len(shape) for axis in axes}
    one = (ONE,) if kept else ()
    parts = [one if axis in gone else (size,) for axis, size in enumerate(shape)]
    return [tuple(size for part in parts for size in part)]


def _range(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    start, limit, step = (sizes.elements(value) for value in node.inputs)
    if not (start and limit and step) or step[0].number != 1:
        return []
    length = limit[0] - start[0]
    return [(length,)] if length.is_natural else []


def _flatten(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return []
    axis = node.attributes.get_int("axis", 1)
    return [(product(list(shape[:axis])), product(list(shape[axis:])))]


def _vector(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape = sizes.shape(node.inputs[0])
    end = node.attributes.get_int("end", len(shape or ()))
    axes = (shape or ())[node.attributes.get_int("start", 0) : end]
    return [(Size.of(len(axes)),)] if shape is not None else []


def _gather_elements(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    return [sizes.shape(node.inputs[1])]


def _gather_nd(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape, indices = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[1])
    width = indices[-1].number if indices else None
    if shape is None or indices is None or width is None:
        return []
    return [(*indices[:-1], *shape[node.attributes.get_int("batch_dims", 0) + width :])]


def _non_zero(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    shape = sizes.shape(node.inputs[0])
    return [(Size.of(len(shape)), Size.atom((id(node.outputs[0]), 1)))] if shape else []


def _attention(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    query, value = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[2])
    if query is None or value is None:
        return []
    width: Size | None = value[-1]
    if len(query) == 3:
        heads = Size.of(node.attributes.get_int("q_num_heads", 0))
        width = (value[-1] * heads).divided(Size.of(node.attributes.get_int("kv_num_heads", 1)))
    return [(*query[:-1], width)] if width is not None else []


RULES: dict[str, Callable[[ir.Node, Sizes], list[Shape | None]]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "Attention": _attention,
    "Expand": _expand,
    "Range": _range,
    "Tile": _tile,
    "Flatten": _flatten,
    "Shape": _vector,
    "ConstantOfShape": lambda node, sizes: [sizes.elements(node.inputs[0])],
}
