"""Models that compute in bfloat16, on processors without such kernels.

ONNX Runtime casts between float32 and bfloat16 on processors, and has next to no other kernel in
it there. What a model computes in bfloat16 can still be judged: each value is computed in float32
from rounded operands, then rounded itself. That is what kernels do that add up in float32; what
they round inside of a fused operator (the weights of an attention) is not seen.
"""

from __future__ import annotations

import onnx_ir as ir

SHORT, WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def emulated(model: ir.Model) -> ir.Model:
    """The model with every value in bfloat16 computed in float32 and rounded.

    Values keep their names. A model that only stores weights in bfloat16, or has none, is returned
    as it is. Inputs and outputs of the model keep their types.
    """
    if not any(_computes(node) for node in ir.traversal.RecursiveGraphIterator(model.graph)):
        return model
    copy = model.clone()
    for graph in (copy.graph, *copy.graph.subgraphs()):
        nodes = list(graph)
        for value in list(graph.initializers.values()):
            if value.dtype is SHORT and value.uses():
                _widened(value, graph, nodes[0])
        for node in nodes:
            for value in node.outputs:
                if value.dtype is SHORT:
                    _rounded(value, graph, node)
    return copy


def _computes(node: ir.Node) -> bool:
    """Whether a node other than a cast reads or gives bfloat16."""
    values = (*node.inputs, *node.outputs)
    short = any(value is not None and value.dtype is SHORT for value in values)
    return short and node.op_type != "Cast"


def _widened(value: ir.Value, graph: ir.Graph, first: ir.Node) -> None:
    """Let what reads a constant read it in float32."""
    node = _cast(value, WIDE)
    ir.convenience.replace_all_uses_with(value, node.outputs[0])
    node.replace_input_with(0, value)
    graph.insert_before(first, node)


def _rounded(value: ir.Value, graph: ir.Graph, maker: ir.Node) -> None:
    """Let what reads a result read it rounded, in float32; that has the result's name."""
    name, source, nodes = value.name, value, []
    if maker.op_type != "Cast":
        value.type = ir.TensorType(WIDE)
        nodes.append(_cast(value, SHORT))
        source = nodes[0].outputs[0]
    nodes.append(_cast(source, WIDE))
    ir.convenience.replace_all_uses_with(value, nodes[-1].outputs[0])
    nodes[0].replace_input_with(0, value)
    graph.insert_after(maker, nodes)
    value.name, nodes[-1].outputs[0].name = f"{name}_exact", name


def _cast(value: ir.Value, kind: ir.DataType) -> ir.Node:
    node = ir.node("Cast", [value], {"to": kind.value})
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(kind), value.shape
    return node
