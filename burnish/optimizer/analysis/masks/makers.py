"""Operators that make tensors from sizes, and that depend on positions."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.masks import rewrite
from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.logic import equal, less_or_equal
from burnish.optimizer.analysis.masks.reshape import product
from burnish.optimizer.analysis.masks.tensors import Tensor, Unsupported, vector
from burnish.optimizer.analysis.masks.terms import (
    FALSE,
    ONE,
    ZERO,
    Term,
    add,
    const,
    index,
    minus,
    scaled,
    where,
)

INT64 = ir.DataType.INT64


def shape_of(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Shape."""
    sizes = tensors[0].shape
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(sizes))
    return vector(INT64, sizes[start:end])


def size_of(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Size."""
    elements = product(tensors[0].shape)
    return Tensor(INT64, (), lambda: elements)


def range_(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Range."""
    start, limit, step = (tensor.items[0] for tensor in tensors)
    if step.op != "const" or step.value == 0:
        raise Unsupported("Range whose step is not known")
    span = minus(limit, start)
    if step.value != 1:
        above = 1 if step.value > 0 else -1
        span = call(
            "floor_div", scaled(add(span, const(step.value - above)), above), const(abs(step.value))
        )
    length = const(max(0, span.value)) if span.op == "const" else span
    if not length.integral:
        raise Unsupported("Range of fractions")
    return Tensor(
        tensors[0].dtype, (length,), lambda: add(start, scaled(index(0, length), step.value))
    )


def constant_of_shape(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """ConstantOfShape."""
    attribute = node.attributes.get("value")
    shape = tuple(tensors[0].items) if tensors[0].shape != (ZERO,) else ()
    if attribute is None:
        return Tensor(ir.DataType.FLOAT, shape, lambda: ZERO)
    tensor = attribute.as_tensor()
    number = tensor.numpy().reshape(()).astype(_wide(tensor.dtype)).item()
    return Tensor(tensor.dtype, shape, lambda: const(number))


def _wide(dtype: ir.DataType) -> str:
    return "bool" if dtype is ir.DataType.BOOL else "int64" if dtype.is_integer() else "float64"


def eye_like(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """EyeLike."""
    source, shift = tensors[0], node.attributes.get_int("k", 0)
    number = node.attributes.get_int("dtype", 0)
    dtype = ir.DataType(number) if number else source.dtype
    rows, columns = source.positions()

    def formula() -> Term:
        diagonal = equal(minus(columns, rows), const(shift))
        return diagonal if dtype is ir.DataType.BOOL else where(diagonal, ONE, ZERO)

    return Tensor(dtype, source.shape, formula)


def trilu(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Trilu."""
    source = tensors[0]
    shift = tensors[1].items[0] if len(tensors) > 1 else ZERO
    is_upper = node.attributes.get_int("upper", 1)

    def formula() -> Term:
        row, column = source.positions()[-2:]
        distance = minus(column, row)
        kept = less_or_equal(shift, distance) if is_upper else less_or_equal(distance, shift)
        return where(kept, source.element, FALSE if source.element.boolean else ZERO)

    return Tensor(source.dtype, source.shape, formula, source.assumed)


def cumulative(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """CumSum of what is the same along the axis; another sum is looked up as it is."""
    source, axis = tensors[0], numbers_of(tensors[1])
    axis = source.axis(axis)
    if axis in rewrite.axes(source.element):
        raise Unsupported("CumSum")
    place, extent = index(axis, source.shape[axis]), source.shape[axis]
    if node.attributes.get_int("reverse", 0):
        place = minus(minus(extent, ONE), place)
    count = place if node.attributes.get_int("exclusive", 0) else add(place, ONE)
    if source.element.op != "const":
        raise Unsupported("CumSum")
    return Tensor(
        source.dtype, source.shape, lambda: scaled(count, source.element.value), source.assumed
    )


def numbers_of(tensor: Tensor) -> int:
    """A constant scalar."""
    item = tensor.items[0]
    if item.op != "const":
        raise Unsupported("an axis that is not known")
    return int(item.value)


OPERATORS = {
    "Shape": shape_of, "Size": size_of, "Range": range_, "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like, "Trilu": trilu, "CumSum": cumulative,
}  # fmt: skip
"""How the output of an operator follows from its inputs."""
