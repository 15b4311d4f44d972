"""Forms of one attention: its products, and ONNX Runtime's MultiHeadAttention."""

from __future__ import annotations

import onnx_ir as ir

from burnish.passes.lower.attention.bias import FUSED, Bias, Facts, Writer


def products(writer: Writer, node: ir.Node, facts: Facts, bias: Bias) -> ir.Value:
    """The attention as two products and a softmax, keys and values not repeated for groups."""
    query, key, value = node.inputs[0], node.inputs[1], node.inputs[2]
    if facts.flat:
        query = _apart(writer, node, query, facts.heads)
        key, value = (_apart(writer, node, item, facts.groups) for item in (key, value))
    grouped = facts.groups not in (1, facts.heads)
    added, alive = bias.added, bias.alive
    if grouped:
        ratio = facts.heads // facts.groups
        query = writer.node(node, "Reshape", [query, _grouping(writer, node, facts, ratio)])
        axis = writer.integers(2)
        key, value = (writer.node(node, "Unsqueeze", [item, axis]) for item in (key, value))
        added = _grouped_bias(writer, node, added, facts, ratio)
        outside = writer.integers(-3)
        alive = writer.node(node, "Unsqueeze", [alive, outside]) if alive is not None else None
    factor = facts.scale / facts.cap if facts.cap else facts.scale
    scores = writer.node(node, "FusedMatMul", [query, key], FUSED, transB=1, alpha=factor)
    if facts.cap:
        scores = writer.node(node, "Tanh", [scores])
        scores = writer.node(node, "Mul", [scores, writer.number(facts.cap)])
    if added is not None:
        scores = writer.node(node, "Add", [scores, added])
    weights = writer.node(node, "Softmax", [scores], axis=-1)
    result = writer.node(node, "MatMul", [weights, value])
    if alive is not None:
        result = writer.node(node, "Mul", [result, alive])
    if grouped:
        shape = writer.integers(0, facts.heads, -1, _size(node.inputs[2], facts))
        result = writer.node(node, "Reshape", [result, shape])
    return _together(writer, node, result) if facts.flat else result


def multi_head(writer: Writer, node: ir.Node, facts: Facts, bias: Bias) -> ir.Value | None:
    """ONNX Runtime's own operator; None where it cannot say what the attention computes."""
    if not facts.flat or facts.groups != facts.heads or facts.cap:
        return None
    inputs: list[ir.Value | None] = [*node.inputs[:3]]
    if bias.added is not None:
        query, key = node.inputs[0], node.inputs[1]
        rows, columns = (
            writer.node(node, "Shape", [item], start=1, end=2) for item in (query, key)
        )
        target = writer.node(node, "Concat", [rows, columns], axis=0)
        for item in (rows, columns, target):
            item.type = ir.TensorType(ir.DataType.INT64)
        whole = writer.node(node, "Expand", [bias.added, target])
        inputs += [None, None, whole]
    result = writer.node(
        node, "MultiHeadAttention", inputs, FUSED, num_heads=facts.heads, scale=facts.scale
    )
    if bias.alive is None:
        return result
    apart = _apart(writer, node, result, facts.heads)
    return _together(writer, node, writer.node(node, "Mul", [apart, bias.alive]))


def _apart(writer: Writer, node: ir.Node, value: ir.Value | None, heads: int) -> ir.Value:
    """[batch, sequence, heads * size] as [batch, heads, sequence, size]."""
    assert value is not None
    shape = writer.integers(0, 0, heads, -1)
    return writer.node(
        node, "Transpose", [writer.node(node, "Reshape", [value, shape])], perm=[0, 2, 1, 3]
    )


def _together(writer: Writer, node: ir.Node, value: ir.Value) -> ir.Value:
    turned = writer.node(node, "Transpose", [value], perm=[0, 2, 1, 3])
    width = node.outputs[0].shape[-1] if node.outputs[0].shape is not None else None
    shape = writer.integers(0, 0, width if isinstance(width, int) else -1)
    return writer.node(node, "Reshape", [turned, shape])


def _size(value: ir.Value | None, facts: Facts) -> int:
    assert value is not None and value.shape is not None
    width = value.shape[-1]
    assert isinstance(width, int)
    return width // facts.groups if facts.flat else width


def _grouping(writer: Writer, node: ir.Node, facts: Facts, ratio: int) -> ir.Value:
    """[batch, groups, ratio, queries, size] as a target; the query's size is known."""
    source = node.inputs[0]
    assert source is not None and source.shape is not None
    width = source.shape[-1]
    assert isinstance(width, int)
    size = width // facts.heads if facts.flat else width
    return writer.integers(0, facts.groups, ratio, -1, size)


def _grouped_bias(
    writer: Writer, node: ir.Node, added: ir.Value | None, facts: Facts, ratio: int
) -> ir.Value | None:
    if added is None or added.shape is None:
        return added
    if len(added.shape) == 4 and added.shape[1] == facts.heads:
        return _by_heads(writer, node, added, facts, ratio)
    return writer.node(node, "Unsqueeze", [added, writer.integers(-3)])


def _by_heads(writer: Writer, node: ir.Node, added: ir.Value, facts: Facts, ratio: int) -> ir.Value:
    tail = writer.node(node, "Shape", [added], start=2, end=4)
    lead = writer.integers(-1, facts.groups, ratio)
    target = writer.node(node, "Concat", [lead, tail], axis=0)
    for item in (tail, target):
        item.type = ir.TensorType(ir.DataType.INT64)
    return writer.node(node, "Reshape", [added, target])
