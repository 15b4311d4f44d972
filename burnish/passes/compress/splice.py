"""New nodes in the place of old ones, under the old names."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


def before(
    anchor: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    domain: str = "",
    **attributes: object,
) -> ir.Value:
    """The output of a new node that stands before the anchor."""
    node = ir.node(operator, inputs, attributes, domain=domain)  # type: ignore[arg-type]
    assert isinstance(anchor.graph, ir.Graph)
    anchor.graph.insert_before(anchor, node)
    return node.outputs[0]


def replace(nodes: tuple[ir.Node, ...], old: ir.Value, new: ir.Value) -> None:
    """Let `new` take the name, type and uses of `old`, and drop the nodes that made `old`."""
    graph = nodes[0].graph
    assert isinstance(graph, ir.Graph)
    new.type, new.shape = old.type, old.shape
    new.doc_string = old.doc_string
    new.metadata_props.update(old.metadata_props)
    name = old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(reversed(nodes), safe=True)
    new.name = name


def drop_unused(model: ir.Model) -> None:
    """Remove the transposes and initializers that only the old products used."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        used = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if node.op_type == "Transpose" and not used:
            assert isinstance(node.graph, ir.Graph)
            node.graph.remove(node, safe=True)
    for graph in (model.graph, *model.graph.subgraphs()):
        kept = {value.name for value in (*graph.inputs, *graph.outputs)}
        for name, value in list(graph.initializers.items()):
            if not value.uses() and name not in kept:
                del graph.initializers[name]
