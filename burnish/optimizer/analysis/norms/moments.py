"""Means and mean squares over trailing axes, however they are spelled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import (
    FLOATS,
    axes_of,
    made_by,
    near,
    operands,
    origin,
    scalar,
    with_operand,
)

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceSumSquare")


@dataclass(frozen=True)
class Moment:
    """`share` times the mean of `base`, or of its square, over `axes`.

    Attributes:
        base: what is averaged.
        axes: counted from the last, -1, in ascending order; empty where they are not known.
        share: 1 for a mean, the number of elements for a sum; NaN where it is not known.
        kept: whether the axes are kept as axes of size 1.
        centered: for squares, whether the mean of `base` was subtracted first.
    """

    base: ir.Value
    axes: tuple[int, ...]
    share: float = 1.0
    kept: bool = True
    centered: bool = False


def alike(first: Moment, second: Moment) -> bool:
    """Whether two moments are of the same numbers over the same axes."""
    return first.axes == second.axes and origin(first.base) is origin(second.base)


def count(moment: Moment) -> int | None:
    """The number of elements that are averaged."""
    sizes = sizes_of(moment.base, len(moment.axes)) if moment.axes else None
    return math.prod(sizes) if sizes else None


def sizes_of(value: ir.Value, trailing: int) -> tuple[int, ...] | None:
    """The sizes of the last axes of a value; None where one is not known before a run."""
    shape = value.shape
    if shape is None or len(shape) < trailing:
        return None
    sizes = tuple(size for size in shape[len(shape) - trailing :] if isinstance(size, int))
    return sizes if len(sizes) == trailing else None


def mean_of(value: ir.Value) -> Moment | None:
    """The mean that a value is."""
    found = _moment(value, squares=False)
    return found if found is not None and found.kept and near(found.share, 1.0) else None


def centered(value: ir.Value) -> Moment | None:
    """The mean that was subtracted from its own base to make a value."""
    value = origin(value)
    if (node := made_by(value, "Sub")) is not None:
        source, mean = node.inputs
    elif (pair := with_operand(made_by(value, "Add"), _is_negated)) is not None:
        source, mean = pair[1], _negated(pair[0])
    else:
        return None
    found = mean_of(mean) if mean is not None else None
    same = found is not None and source is not None and origin(found.base) is origin(source)
    return found if same else None


def _is_negated(value: ir.Value) -> bool:
    return _negated(value) is not None


def _negated(value: ir.Value) -> ir.Value | None:
    node = made_by(value, "Neg")
    return node.inputs[0] if node is not None else None


def mean_square_of(value: ir.Value) -> Moment | None:
    """The mean of squares (of differences from the mean, where `centered`) that a value is.

    `share` is not 1 for a sum of squares, nor where the divisor is the number less one.
    """
    found = _moment(value, squares=True)
    return _around_mean(found) if found is not None else None


def squares_over(norm: ir.Node) -> Moment | None:
    """The sum of squares whose root a `ReduceL2` gives."""
    base = norm.inputs[0]
    return _around_mean(_over(norm, base, total=True)) if base is not None else None


def _around_mean(moment: Moment) -> Moment:
    """The moment as one of `x`, where it is one of `x` less the mean of `x` over the same axes."""
    around = centered(moment.base)
    if moment.centered or around is None or around.axes != moment.axes:
        return moment
    return replace(moment, base=around.base, centered=True)


def _moment(value: ir.Value, squares: bool) -> Moment | None:
    node = value.producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    first = node.inputs[0]
    match node.op_type:
        case "Identity" | "Cast":
            floats = first.dtype is None or first.dtype in FLOATS
            return _moment(first, squares) if floats else None
        case "Unsqueeze":
            inner = _moment(first, squares)
            return _unsqueezed(node, inner) if inner is not None else None
        case "Mul" | "Div":
            return _scaled(node, squares) or (_square_of_norm(node) if squares else None)
        case "Pow":
            return _square_of_norm(node) if squares else None
        case "Sub":
            return _difference(node) if squares else None
        case "Max" | "Clip" | "Relu":
            return _guarded(node) if squares else None
    return _reduced(node, squares)


def _reduced(node: ir.Node, squares: bool) -> Moment | None:
    base = node.inputs[0]
    if base is None or node.op_type not in REDUCTIONS:
        return None
    if node.op_type == "ReduceSumSquare":
        base = base if squares else None
    elif squares:
        base = square_root_of(base)
    if base is None:
        return None
    return _over(node, base, total=node.op_type != "ReduceMean")


def _over(node: ir.Node, base: ir.Value, total: bool) -> Moment:
    rank = len(base.shape) if base.shape is not None else 0
    axes = axes_of(node) or ()
    axes = tuple(sorted(axis - rank if axis >= 0 else axis for axis in axes))
    if any(axis >= 0 for axis in axes):  # counted from the first, in a value of unknown rank
        axes = ()
    moment = Moment(base, axes, kept=node.attributes.get_int("keepdims", 1) == 1)
    return replace(moment, share=float(count(moment) or math.nan)) if total else moment


def square_root_of(value: ir.Value) -> ir.Value | None:
    """What a value is the square of, element by element."""
    node = made_by(origin(value), "Mul", "Pow")
    if node is None or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is None or second is None:
        return None
    if node.op_type == "Pow":
        return first if scalar(second) == 2.0 else None
    if origin(first) is origin(second):
        return first
    mine, theirs = centered(first), centered(second)  # the mean may be computed twice
    same = mine is not None and theirs is not None and alike(mine, theirs)
    return first if same else None


def _square_of_norm(node: ir.Node) -> Moment | None:
    root = square_root_of(node.outputs[0])
    norm = made_by(root, "ReduceL2")
    if norm is None or norm.inputs[0] is None:
        return None
    return _over(norm, norm.inputs[0], total=True)


def _scaled(node: ir.Node, squares: bool) -> Moment | None:
    """A moment times a constant, or divided by one; of unknown share where it is no constant."""
    pairs = list(operands(node))[: 1 if node.op_type == "Div" else 2]
    for value, other in pairs:
        factor = scalar(other)
        if factor is None and made_by(value, *REDUCTIONS) is None:
            continue
        inner = _moment(value, squares)
        if inner is None:
            continue
        if node.op_type == "Div" and factor is not None:
            factor = 1.0 / factor if factor else None
        return replace(inner, share=math.nan if factor is None else inner.share * factor)
    return None


def _difference(node: ir.Node) -> Moment | None:
    """The mean of the square less the square of the mean."""
    first, second = node.inputs
    inner = _moment(first, squares=True) if first is not None else None
    root = square_root_of(second) if second is not None else None
    mean = mean_of(root) if root is not None else None
    if inner is None or mean is None or not near(inner.share, 1.0):
        return None
    return replace(inner, centered=True) if alike(mean, inner) and inner.kept else None


def _guarded(node: ir.Node) -> Moment | None:
    """A mean square, which is never negative, kept from being so by rounding."""
    if node.op_type == "Max":
        pair = with_operand(node, lambda value: scalar(value) == 0.0)
        guarded = pair[1] if pair is not None else None
    elif node.op_type == "Relu":
        guarded = node.inputs[0]
    else:
        bounds = [item for item in node.inputs[1:] if item is not None]
        least = node.inputs[1] if len(node.inputs) > 1 else None
        only = len(bounds) == 1 and scalar(least) == 0.0
        guarded = node.inputs[0] if only else None
    return _moment(guarded, squares=True) if guarded is not None else None


def _unsqueezed(node: ir.Node, inner: Moment) -> Moment | None:
    """A moment whose axes were dropped and are put back."""
    axes = axes_of(node) or ()
    rank = len(inner.base.shape) if inner.base.shape is not None else 0
    axes = tuple(sorted(axis - rank if axis >= 0 else axis for axis in axes))
    return replace(inner, kept=True) if not inner.kept and axes == inner.axes else None
