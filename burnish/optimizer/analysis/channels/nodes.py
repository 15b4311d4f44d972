"""What each operator makes of channels: where they are in its other operands and results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.channels.axis import Axis, Coarser, Coupled, reshaped
from burnish.optimizer.analysis.channels.trace import Trace, merged
from burnish.optimizer.analysis.channels.written import hold_shape, parts_of, sizes, written
from burnish.optimizer.analysis.matching import axes_of, optional, rank
from burnish.optimizer.analysis.products import shape_of

ELEMENTWISE = {
    "Abs", "Add", "Cast", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Reciprocal",
    "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh", "Where",
}  # fmt: skip
"""Operators that compute each channel by itself."""

NORMALIZATIONS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")


def visit(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    """Go from a value to all others of a node that has it as an operand or a result.

    Raises:
        Coupled: the node mixes channels, or is not known.
        Coarser: it takes several together.
    """
    if node.domain == "" and node.op_type == "Shape":
        hold_shape(node, axis)
        return
    rule = RULES.get(node.op_type) if node.domain == "" else None
    if node.domain == "" and node.op_type in ELEMENTWISE:
        rule = _elementwise
    if rule is None:
        raise Coupled(f"{node.op_type} reads or writes them")
    trace.nodes[node] = None
    rule(trace, node, value, axis)


def _elementwise(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    behind = rank(value) - axis.place
    result = node.outputs[0]
    trace.add(result, axis.at(rank(result) - behind))
    for index, operand in enumerate(node.inputs):
        if operand is None:
            continue
        shape = shape_of(operand) if operand.const_value is not None else sizes(operand)
        place = len(shape) - behind
        if place < 0 or shape[place] == 1:
            continue
        if shape[place] != axis.length:
            raise Coupled("an operand has another number of channels")
        if operand.const_value is not None and operand.producer() is None:
            trace.constant(node, index, axis.at(place))
        else:
            trace.add(operand, axis.at(place))


def _transpose(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    order = node.attributes.get_ints("perm", tuple(reversed(range(rank(value)))))
    forward = value is node.inputs[0]
    place = order.index(axis.place) if forward else order[axis.place]
    trace.add(node.outputs[0] if forward else node.inputs[0], axis.at(place))


def _reshape(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    source, result = node.inputs[0], node.outputs[0]
    if value is result and _blocks(trace, node, axis):
        place = axis.place
    else:
        other = result if value is source else source
        trace.add(other, reshaped(axis, sizes(value), sizes(other)))
        place = trace.axes[result].place
    told = written(node.inputs[1])
    if told is None or told[place] is None:
        raise Coupled("a reshape computes how many there are")


def _blocks(trace: Trace, node: ir.Node, axis: Axis) -> bool:
    """A product whose columns hold the channels several times, one block after the other.

    That is how [..., 3 * heads * size] becomes [..., 3, heads, size].
    """
    source, shape = node.inputs[0], sizes(node.outputs[0])
    product = trace.by_output.get(source) if source is not None else None
    behind = [size or 0 for size in shape[axis.place + 1 :]]
    span = axis.size * math.prod(behind)
    if source is None or product is None or not span or product.n <= axis.count * span:
        return False
    if product.n % (axis.count * span) or rank(source) > axis.place:
        return False
    if len(source.uses()) > 1 or source.is_graph_output():
        raise Coupled("a merged product has other readers")
    trace.reshaped[node] = None
    for start in range(0, product.n, axis.count * span):
        flat = Axis(rank(source) - 1, axis.count, span, axis.shared)
        trace.writes(product, start, flat)
    return True


def _rotation(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    if value not in (node.inputs[0], node.outputs[0]):
        raise Coupled("a rotation's table has them")
    if rank(value) == 3:
        heads = node.attributes.get_int("num_heads", 0)
        _of_heads(axis, heads)
    elif axis.place == rank(value) - 1:
        raise Coupled("a rotation mixes them")
    trace.add(node.inputs[0], axis)
    trace.add(node.outputs[0], axis)


def _of_heads(axis: Axis, heads: int) -> None:
    """Raise where units are no whole heads of a flat axis."""
    size = axis.length // heads if heads else 0
    if not heads or axis.length % heads:
        raise Coupled("heads do not divide the channels")
    if axis.size % size:
        raise Coarser(size // np.gcd(size, axis.size).item())


def _normalization(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    first = node.attributes.get_int("axis", -1) % rank(value)
    if axis.place >= first or value not in (node.inputs[0], node.outputs[0]):
        raise Coupled("they are normalized together")
    if len(node.outputs) > 1 and any(item.uses() for item in node.outputs[1:]):
        raise Coupled("a normalization gives its statistics")
    for scale in node.inputs[1:]:
        if scale is not None and rank(scale) > rank(value) - first:
            raise Coupled("a normalization scales them one by one")
    trace.add(node.inputs[0], axis)
    trace.add(node.outputs[0], axis)


def _concat(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    if node.attributes.get_int("axis", 0) % rank(value) == axis.place:
        raise Coupled("they are put beside others")
    for operand in (*node.inputs, *node.outputs):
        if operand is not None and operand.const_value is not None:
            raise Coupled("constants are put behind them")
        trace.add(operand, axis)


def _part(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    """`Split` and `Slice`: along other axes, or of a product's columns."""
    source = node.inputs[0]
    assert source is not None
    bounds = parts_of(node, axis.place)
    if bounds is None:
        raise Coupled("parts of them are taken at computed places")
    if not bounds:  # along other axes
        for other in (source, *node.outputs):
            trace.add(other, axis)
        return
    product, span = merged(trace, source, axis.place)
    if value is source or product is None:
        raise Coupled("parts of them are taken")
    start, end = bounds[node.outputs.index(value)]
    if end - start != axis.length:
        raise Coupled("parts of them are taken")
    if source.is_graph_output():
        raise Coupled(f"port {source.name} has them")
    for use in source.uses():
        if use.idx or use.node.domain or not parts_of(use.node, axis.place):
            raise Coupled("a merged product has other readers")
    trace.cut[source] = span
    trace.writes(product, start * span, replace(axis, size=axis.size * span))


def _gather(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    """Rows of a table whose columns are channels; or elements of another axis."""
    source, indices = node.inputs[0], node.inputs[1]
    at = node.attributes.get_int("axis", 0) % rank(source)
    extra = rank(indices) - 1
    if source is None or rank(indices) < 0 or value is indices:
        raise Coupled("they are looked up by others")
    if value is source:
        if at == axis.place:
            raise Coupled("single ones of them are taken")
        trace.add(node.outputs[0], axis.at(axis.place + (extra if axis.place > at else 0)))
        return
    place = axis.place - extra if axis.place > at + extra else axis.place
    if axis.place >= at and axis.place <= at + extra:
        raise Coupled("single ones of them are taken")
    if source.const_value is not None and source.producer() is None:
        if len(source.uses()) > 1:
            raise Coupled("a table has other readers")
        trace.constant(node, 0, axis.at(place))
    else:
        trace.add(source, axis.at(place))


def _squeeze(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    source, result = node.inputs[0], node.outputs[0]
    axes = axes_of(node)
    longer = result if node.op_type == "Unsqueeze" else source
    shorter = source if longer is result else result
    if axes is None:
        raise Coupled(f"{node.op_type} is of computed axes")
    new = sorted(item % rank(longer) for item in axes)
    left = [place for place in range(rank(longer)) if place not in new]
    if value is longer and axis.place in new:
        raise Coupled(f"{node.op_type} takes their axis away")
    trace.add(longer, axis.at(axis.place if value is longer else left[axis.place]))
    trace.add(shorter, axis.at(left.index(trace.axes[longer].place) if longer else 0))


def _attention(trace: Trace, node: ir.Node, value: ir.Value, axis: Axis) -> None:
    """Heads are what an attention computes apart; groups of them may share keys and values."""
    query, key, result = node.inputs[0], node.inputs[1], node.outputs[0]
    if any(optional(node, index) is not None for index in (4, 5)) and not trace.keys_stay:
        raise Coupled("caches have them")
    if any(item.uses() or item.is_graph_output() for item in node.outputs[3:]):
        raise Coupled("an attention gives its scores")
    flat = rank(query) == 3
    heads, groups = (
        node.attributes.get_int(name, 0) if flat else sizes(item)[1]
        for name, item in (("q_num_heads", query), ("kv_num_heads", key))
    )
    if not heads or not groups or heads % groups:
        raise Coupled("the number of heads is not known")
    of_query = value in (query, result)
    if flat:
        _of_heads(axis, heads if of_query else groups)
    elif axis.place != 1:
        raise Coupled("an attention mixes them")
    count = heads if of_query else groups
    if axis.count != count:
        raise Coupled("several heads go together")
    if not of_query and axis.shared != heads // groups:
        raise Coupled("groups of heads are their units")
    if node not in trace.attentions:
        trace.attentions.append(node)
    _mask(trace, node, heads)
    place = 2 if flat else 1
    for item in (query, result):
        size = (sizes(item)[2] or 0) // heads if flat else 1
        trace.add(item, Axis(place, heads, size))
    if trace.keys_stay:
        return
    for item in (key, node.inputs[2]):
        size = (sizes(item)[2] or 0) // groups if flat else 1
        trace.add(item, Axis(place, groups, size, heads // groups))
    for item in node.outputs[1:3]:
        if item.uses() or item.is_graph_output():
            trace.add(item, Axis(1, groups, 1, heads // groups))


def _mask(trace: Trace, node: ir.Node, heads: int) -> None:
    """Note a mask that differs by head."""
    mask = optional(node, 3)
    shape = sizes(mask) if mask is not None else []
    if len(shape) < 3 or shape[-3] == 1:
        return
    if shape[-3] != heads:
        raise Coupled("it is not known which heads share a mask")
    trace.masks[node] = len(shape) - 3


Rule = Callable[[Trace, ir.Node, ir.Value, Axis], None]

RULES: dict[str, Rule] = {
    "Attention": _attention,
    "Concat": _concat,
    "Gather": _gather,
    "Reshape": _reshape,
    "RotaryEmbedding": _rotation,
    "Slice": _part,
    "Split": _part,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
    **dict.fromkeys(NORMALIZATIONS, _normalization),
}
