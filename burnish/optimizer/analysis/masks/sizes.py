"""Sizes of axes: numbers, declared symbols and their sums, or what an operator makes of them."""

from __future__ import annotations

import ast
from collections.abc import Callable

import onnx_ir as ir

from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.reshape import product
from burnish.optimizer.analysis.masks.tensors import Tensor, Unsupported, broadcast
from burnish.optimizer.analysis.masks.terms import ONE, Term, add, const, minus, scaled, size, times


def declared(value: ir.Value) -> tuple[Term, ...] | None:
    """The sizes that a value is declared with; None where its rank is open."""
    if value.const_value is not None:
        return tuple(const(int(number)) for number in value.const_value.shape.numpy())
    if value.shape is None:
        return None
    return tuple(_declared(value, axis, extent) for axis, extent in enumerate(value.shape))


def _declared(value: ir.Value, axis: int, extent: int | ir.SymbolicDim) -> Term:
    if isinstance(extent, int):
        return const(extent)
    try:
        parsed = _parse(ast.parse(extent.value or "", mode="eval").body)
    except SyntaxError:
        parsed = size(extent.value) if extent.value else None
    return size((value, axis)) if parsed is None else parsed


def _parse(node: ast.expr) -> Term | None:
    """A symbol, or a sum, difference or product of symbols and numbers."""
    if isinstance(node, ast.Name):
        return size(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return const(node.value)
    if isinstance(node, ast.BinOp):
        functions: dict[type[ast.operator], Callable[[Term, Term], Term]]
        functions = {ast.Add: add, ast.Sub: minus, ast.Mult: times}
        function = functions.get(type(node.op))
        left, right = _parse(node.left), _parse(node.right)
        if function is not None and left is not None and right is not None:
            return function(left, right)
    return None


Rule = Callable[[ir.Node, list[Tensor]], tuple[Term, ...]]


def _first(node: ir.Node, tensors: list[Tensor]) -> tuple[Term, ...]:
    return tensors[0].shape


def _matrix_product(node: ir.Node, tensors: list[Tensor]) -> tuple[Term, ...]:
    left, right = tensors[0], tensors[1]
    if left.rank < 2 or right.rank < 2:
        raise Unsupported("product with a vector")
    if node.op_type == "Gemm":
        rows = left.shape[node.attributes.get_int("transA", 0)]
        return (rows, right.shape[1 - node.attributes.get_int("transB", 0)])
    outer, _ = broadcast(Tensor(item.dtype, item.shape[:-2], lambda: ONE) for item in (left, right))
    return (*outer, left.shape[-2], right.shape[-1])


def _reduced(node: ir.Node, tensors: list[Tensor]) -> tuple[Term, ...]:
    source = tensors[0]
    keep = node.attributes.get_int("keepdims", 1)
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [node.attributes.get_int("axis", 0)]
    elif len(tensors) > 1:
        axes = [int(item.value) for item in tensors[1].items]
    else:
        axes = list(node.attributes.get_ints("axes", tuple(range(source.rank))))
    gone = {source.axis(axis) for axis in axes}
    shape = [ONE if axis in gone else extent for axis, extent in enumerate(source.shape)]
    return tuple(shape if keep else [x for a, x in enumerate(shape) if a not in gone])


def _all_together(node: ir.Node, tensors: list[Tensor]) -> tuple[Term, ...]:
    return broadcast(tensors)[0]


def _convolved(node: ir.Node, tensors: list[Tensor]) -> tuple[Term, ...]:
    source, kernel = tensors[0], tensors[1]
    count = source.rank - 2
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise Unsupported("automatic padding")
    ones, zeros = (1,) * count, (0,) * 2 * count
    strides, dilations = (node.attributes.get_ints(n, ones) for n in ("strides", "dilations"))
    pads = node.attributes.get_ints("pads", zeros)
    sizes = []
    for axis in range(count):
        reach = scaled(minus(kernel.shape[axis + 2], ONE), dilations[axis])
        room = minus(add(source.shape[axis + 2], const(pads[axis] + pads[axis + count])), reach)
        steps = call("floor_div", minus(room, ONE), const(strides[axis]))
        sizes.append(add(steps, ONE))
    return (source.shape[0], kernel.shape[0], *sizes)


RULES: dict[str, Rule] = {
    "MatMul": _matrix_product,
    "Gemm": _matrix_product,
    "Conv": _convolved,
    "PRelu": _all_together,
    **dict.fromkeys(
        (
            "LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "Dropout", "Relu",
            "Gelu", "Tanh", "Sigmoid", "Erf", "Reciprocal", "Cos", "Sin", "CumSum", "IsNaN",
            "IsInf", "ScatterND", "ScatterElements", "RotaryEmbedding", "Softplus", "Elu",
        ),
        _first,
    ),
    **dict.fromkeys(
        (
            "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2",
            "ReduceSumSquare", "ArgMax", "ArgMin",
        ),
        _reduced,
    ),
}  # fmt: skip
"""How the shape of an output follows, for operators whose elements are not followed."""

BOOLEAN = {"IsNaN", "IsInf"}
INDICES = {"ArgMax", "ArgMin"}


def rule(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """The shape of the output of an operator whose elements are not followed.

    Raises:
        Unsupported: it does not follow.
    """
    if node.domain or node.op_type not in RULES:
        raise Unsupported(node.op_type)
    dtype = tensors[0].dtype
    if node.op_type in BOOLEAN:
        dtype = ir.DataType.BOOL
    if node.op_type in INDICES:
        dtype = ir.DataType.INT64
    return Tensor(dtype, RULES[node.op_type](node, tensors), lambda: product([]))
