"""Queries, keys and values as the operator wants them: with heads, and without repetitions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import number, rank
from burnish.passes.recover.attention.scores import same_last


def unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """The value without the constant factors that were multiplied in last, and their product."""
    factor = 1.0
    while (node := value.producer()) is not None and node.op_type in ("Mul", "Div", "Identity"):
        inputs = list(node.inputs)
        if node.op_type == "Mul" and number(inputs[1]) is None:
            inputs.reverse()
        scale = 1.0 if node.op_type == "Identity" else number(inputs[1])
        if not scale or inputs[0] is None:
            break
        factor = factor / scale if node.op_type == "Div" else factor * scale
        value = inputs[0]
    return value, factor


def with_heads(value: ir.Value) -> ir.Value | None:
    """The value [batch, heads, a, b]: itself, or that of which it merges the first two axes."""
    if rank(value) == 4:
        return value
    node = value.producer()
    if rank(value) != 3 or node is None or node.op_type != "Reshape":
        return None
    source = node.inputs[0]
    merged = source is not None and rank(source) == 4 and same_last(source, value)
    return source if merged else None


def transposed(value: ir.Value, before: ir.Node) -> ir.Value:
    """The value with its last two axes exchanged, without a needless second transpose."""
    node = value.producer()
    source, axes = value, list(range(rank(value)))
    if node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
        source = node.inputs[0]
        axes = list(node.attributes.get_ints("perm", tuple(reversed(axes))))
    axes[-1], axes[-2] = axes[-2], axes[-1]
    if axes == sorted(axes):
        return source
    return insert(before, "Transpose", [source], like=value, shape=_swapped(value), perm=axes)


def _swapped(value: ir.Value) -> ir.Shape | None:
    if value.shape is None:
        return None
    dims = list(value.shape)
    dims[-1], dims[-2] = dims[-2], dims[-1]
    return ir.Shape(dims)


def insert(
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value | None],
    *,
    like: ir.Value,
    shape: ir.Shape | None,
    **attributes: int | float | list[int],
) -> ir.Value:
    """The output of a new node before another, of the element type of `like`."""
    node = ir.node(operator, inputs, attributes)
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(before, node)
    value = node.outputs[0]
    value.type, value.shape = like.type, shape
    return value


def without_repeats(value: ir.Value, heads: int) -> ir.Value:
    """Keys or values before each head was repeated for a group of queries' heads.

    Repetitions are an Expand between an Unsqueeze and a Reshape (or two Reshapes), or a Gather of
    repeated heads.
    """
    node = value.producer()
    if node is None or rank(value) != 4:
        return value
    if node.op_type == "Gather" and node.attributes.get_int("axis", 0) == 1:
        return _gathered(value, node)
    expand = node.inputs[0].producer() if node.op_type == "Reshape" and node.inputs[0] else None
    if expand is None or expand.op_type != "Expand" or expand.inputs[0] is None:
        return value
    apart = expand.inputs[0].producer()
    if apart is None or apart.op_type not in ("Unsqueeze", "Reshape") or rank(apart.inputs[0]) != 4:
        return value
    source, middle = apart.inputs[0], expand.inputs[0]
    assert source is not None and source.shape is not None and middle.shape is not None
    single = rank(middle) == 5 and middle.shape[2] == 1 and middle.shape[1] == source.shape[1]
    count = source.shape[1]
    divides = isinstance(count, int) and heads % count == 0
    kept = same_last(source, value) and same_last(middle, source)
    wide = expand.outputs[0].shape
    plain = wide is None or (len(wide) == 5 and (wide[1] == count or not isinstance(wide[1], int)))
    return source if single and divides and kept and plain else value


def _gathered(value: ir.Value, node: ir.Node) -> ir.Value:
    source, indices = node.inputs[0], node.inputs[1]
    table = ir.convenience.get_const_tensor(indices) if indices is not None else None
    if source is None or source.shape is None or table is None or len(table.shape) != 1:
        return value
    count = source.shape[1]
    if not isinstance(count, int) or rank(source) != 4 or table.size % count:
        return value
    repeated = np.repeat(np.arange(count), table.size // count)
    return source if np.array_equal(table.numpy(), repeated) else value
