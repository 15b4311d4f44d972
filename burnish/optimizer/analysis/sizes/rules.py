"""Shapes of outputs from those of inputs, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from burnish.optimizer.analysis.sizes import layout
from burnish.optimizer.analysis.sizes.layout import Shape
from burnish.optimizer.analysis.sizes.size import ONE, Size, agree

if TYPE_CHECKING:
    from burnish.optimizer.analysis.sizes.sizes import Sizes


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
            result.append(numbers[0] if numbers else layout.unknown(value, axis))
    return tuple(result)


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
    shape, axes = sizes.shape(node.inputs[0]), layout.axes_of(node, sizes)
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


def _fourier(node: ir.Node, sizes: Sizes) -> list[Shape | None]:
    """Of a transform along an axis that is written, or of three axes, where both defaults agree."""
    shape = sizes.shape(node.inputs[0])
    given = sizes.elements(node.inputs[2]) if len(node.inputs) > 2 else None
    axis = given[0].number if given else node.attributes.get_int("axis", -2)
    one, inverse = (node.attributes.get_int(name, 0) for name in ("onesided", "inverse"))
    written = given is not None or "axis" in node.attributes or len(shape or ()) == 3
    if shape is None or axis is None or not written:
        return []
    length: Size | None = shape[axis]
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        elements = sizes.elements(node.inputs[1])
        length = elements[0] if elements else None
    elif one and inverse:
        length = shape[axis] + shape[axis] - Size.of(2)
    if one and not inverse and length is not None:
        length = Size.of(length.number // 2 + 1) if length.number is not None else None
    result = [*shape[:-1], Size.of(1 if one and inverse else 2)]
    result[axis] = length if length is not None else Size.atom((id(node.outputs[0]), axis))
    return [tuple(result)]


RULES: dict[str, Callable[[ir.Node, Sizes], list[Shape | None]]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": layout.transpose,
    "Reshape": layout.reshape,
    "Unsqueeze": layout.unsqueeze,
    "Squeeze": layout.squeeze,
    "Concat": layout.concat,
    "Slice": layout.slice_,
    "Split": layout.split,
    "DFT": _fourier,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "Attention": _attention,
    "Expand": _expand,
    "Range": _range,
    "Tile": _tile,
    "Flatten": layout.flatten,
    "Shape": _vector,
    "ConstantOfShape": lambda node, sizes: [sizes.elements(node.inputs[0])],
}
