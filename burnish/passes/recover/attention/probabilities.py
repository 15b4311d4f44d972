"""What reads the probabilities of an attention, besides the product with the values."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.matching import rank, scalar
from burnish.optimizer.pruning import take_over
from burnish.passes.recover.attention.operands import insert
from burnish.passes.recover.attention.scores import Miss, same_last

LAYOUT = {"Reshape", "Squeeze", "Unsqueeze"}


def sizes_read(value: ir.Value) -> list[ir.Node]:
    """The nodes that read no more of a value than its shape."""
    return [use.node for use in value.uses() if use.node.op_type == "Shape"]


def reader(value: ir.Value) -> tuple[ir.Node, list[ir.Node]] | Miss | None:
    """The product that reads the probabilities, and what reads their sizes; None without one."""
    sizes: list[ir.Node] = []
    while True:
        sizes += sizes_read(value)
        selected = guard(value)
        if selected is not None and not value.is_graph_output():
            value = selected
            continue
        uses = [use for use in value.uses() if use.node.op_type != "Shape"]
        multiplied = [use for use in uses if use.node.op_type == "MatMul" and use.idx == 0]
        if len(uses) != 1 or value.is_graph_output():
            if not multiplied:
                return None
            others = "an output" if value.is_graph_output() else f"{len(uses)} nodes"
            return Miss(multiplied[0].node, f"its probabilities are read by {others}")
        node, inner = uses[0].node, value
        if multiplied:
            return node, sizes
        if not node.outputs:
            return None
        value = node.outputs[0]
        if node.op_type in LAYOUT and not same_last(inner, value):
            return None
        if node.op_type not in (*LAYOUT, "Identity", "Dropout", "Cast"):
            further = [use.node for use in value.uses() if use.node.op_type == "MatMul"]
            known = node.op_type in ("Mul", "Slice", "Where", "Add", "Div")
            return Miss(node, "something changes its probabilities") if further and known else None


def guard(value: ir.Value) -> ir.Value | None:
    """The probabilities with zero in place of NaN, where those are all that is read."""
    uses = [use for use in value.uses() if use.node.op_type != "Shape"]
    nodes = {use.node.op_type: use.node for use in uses}
    if set(nodes) != {"IsNaN", "Where"} or len(uses) != 2:
        return None
    test, select = nodes["IsNaN"], nodes["Where"]
    alone = len(list(test.outputs[0].uses())) == 1
    zero = scalar(select.inputs[1]) == 0.0
    guards = alone and zero and select.inputs[0] is test.outputs[0] and select.inputs[2] is value
    return select.outputs[0] if guards else None


def answer_sizes(nodes: Sequence[ir.Node], query: ir.Value, key: ir.Value) -> None:
    """Let those that read the probabilities' sizes read them off queries and keys.

    Args:
        nodes: see `reader`; their values have as many axes as the queries, or have heads merged
            into the batch.
        query: [batch, heads, queries, size], or [batch, queries, size].
        key: like `query`.
    """
    for node in nodes:
        value, like = node.inputs[0], node.outputs[0]
        assert value is not None
        last = rank(query) - 2
        lead = [_size(query, axis, node) for axis in range(last)]
        if rank(value) < rank(query):
            lead = [insert(node, "Mul", [*lead], like=like, shape=ir.Shape([1]))]
        parts: list[ir.Value | None] = [*lead, _size(query, last, node), _size(key, last, node)]
        start = node.attributes.get_int("start", 0)
        end = node.attributes.get_int("end", len(parts))
        whole = insert(node, "Concat", parts[start:end], like=like, shape=like.shape, axis=0)
        take_over(like, whole)


def _size(value: ir.Value, axis: int, reader: ir.Node) -> ir.Value:
    like = reader.outputs[0]
    return insert(
        reader, "Shape", [value], like=like, shape=ir.Shape([1]), start=axis, end=axis + 1
    )
