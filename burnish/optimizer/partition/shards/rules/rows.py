"""Rows of a table that is spread over ranks: each gives those it has, and zeros for the others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.partition.shards.local import Local


def rows_locally(local: Local) -> None:
    """Look up own rows, and multiply those of others by zero."""
    parts = local.wants[0][0]
    index, table = local.node.inputs[1], local.before.inputs[0]
    assert parts is not None and index is not None and table is not None
    bounds = parts.ranges()
    assert bounds is not None and table.dtype is not None
    first, end = bounds[local.rank]
    kind = local.before.inputs[1].dtype if local.before.inputs[1] is not None else None
    numbers = (kind or ir.DataType.INT64).numpy()

    def number(value: int) -> ir.Value:
        return local.number(np.array(value, numbers), "row")

    negative = local.ahead("Less", [index, number(0)])
    counted = local.ahead(
        "Where", [negative, local.ahead("Add", [index, number(parts.size)]), index]
    )
    own = local.ahead("Sub", [counted, number(first)])
    low = local.ahead("GreaterOrEqual", [own, number(0)])
    inside = local.ahead("And", [low, local.ahead("Less", [own, number(end - first)])])
    local.node.replace_input_with(1, local.ahead("Where", [inside, own, number(0)]))
    whole = local.node.outputs[0]
    # The node's own output keeps its name, so that what is looked up gets another.
    found = ir.Value(name=f"{whole.name}.rows", type=whole.type)
    rows = ir.node("Gather", list(local.node.inputs), {"axis": 0}, outputs=[found])
    graph = local.node.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(local.node, rows)
    zero = local.number(np.array(0, table.dtype.numpy()), "zero")
    last = local.number(np.array([-1], np.int64), "last")
    lines = local.ahead("Unsqueeze", [inside, last])
    lines.type = inside.type
    chosen = ir.node(
        "Where", [lines, found, zero], outputs=[ir.Value(name=f"{whole.name}.own", type=whole.type)]
    )
    graph.insert_before(local.node, chosen)
    local.node.op_type = "Identity"
    local.node.attributes.clear()
    local.node.resize_inputs(1)
    local.node.replace_input_with(0, chosen.outputs[0])
