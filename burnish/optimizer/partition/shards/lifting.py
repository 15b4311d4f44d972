"""What reads a transposed value reads the value, so that all readers are seen side by side."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.constants import Constants
from burnish.optimizer.partition.shards.site import constant


def lift(graph: ir.Graph, constants: Constants) -> None:
    """Let sizes, and parts by constant indices, be read of what a Transpose is given.

    - `Shape(Transpose(x))` becomes the sizes of x in that order;
    - `GatherND(Transpose(x), [[i], [j]])`, as exporters spell rows i and j of the first axis,
      becomes `Transpose(Gather(x, [i, j]))` along the axis that becomes the first.

    Args:
        graph: changed.
        constants: of it.
    """
    for node in tuple(graph):
        maker = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if maker is None or maker.op_type != "Transpose" or node.domain or maker.domain:
            continue
        order = list(maker.attributes.get_ints("perm", ()))
        if not order or maker.inputs[0] is None:
            continue
        if node.op_type == "Shape":
            _sizes(graph, node, maker.inputs[0], order, constants)
        elif node.op_type == "GatherND" and not node.attributes.get_int("batch_dims", 0):
            _rows(graph, node, maker.inputs[0], order, constants)


def _sizes(
    graph: ir.Graph, node: ir.Node, value: ir.Value, order: list[int], constants: Constants
) -> None:
    start = node.attributes.get_int("start", 0)
    picked = order[start : node.attributes.get_int("end", len(order))]
    index = constants.of(graph, "order", np.array(picked, np.int64))
    sizes = ir.node("Shape", [value])
    sizes.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    sizes.outputs[0].shape = ir.Shape([len(order)])
    _instead(graph, node, [sizes, ir.node("Gather", [sizes.outputs[0], index], {"axis": 0})])


def _rows(
    graph: ir.Graph, node: ir.Node, value: ir.Value, order: list[int], constants: Constants
) -> None:
    numbers = constant(given(node, 1))
    if numbers is None or numbers.ndim != 2 or numbers.shape[1] != 1:
        return
    index = constants.of(graph, "rows", numbers.reshape(-1).astype(np.int64))
    rows = ir.node("Gather", [value, index], {"axis": order[0]})
    rows.outputs[0].type = node.outputs[0].type
    _instead(graph, node, [rows, ir.node("Transpose", [rows.outputs[0]], {"perm": order})])


def _instead(graph: ir.Graph, node: ir.Node, made: list[ir.Node]) -> None:
    """Put nodes in place of one; the last gives what it gave."""
    old, new = node.outputs[0], made[-1].outputs[0]
    if old.is_graph_output():
        return
    for item in made:
        graph.insert_before(node, item)
    new.type, new.shape, new.name = old.type, old.shape, f"{old.name}.lifted"
    for reader, place in tuple(old.uses()):
        reader.replace_input_with(place, new)
    graph.remove(node, safe=True)
