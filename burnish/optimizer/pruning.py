"""What nobody needs any more after a rewrite, removed without a look at the whole graph."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def idle(value: ir.Value) -> bool:
    """Whether nobody needs the value."""
    return not value.uses() and not value.is_graph_output()


def prune(values: Iterable[ir.Value | None]) -> None:
    """Remove what was computed, or stored, for values that nobody needs any more.

    Nodes with subgraphs stay, since what is in those reads values as well.
    """
    stack = [value for value in values if value is not None]
    while stack:
        value = stack.pop()
        if not idle(value):
            continue
        node = value.producer()
        if node is None:
            home = value.graph if value.const_value is not None else None
            if isinstance(home, ir.Graph) and value not in home.inputs:
                home.initializers.pop(value.name or "", None)
            continue
        inner = any(
            item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for item in node.attributes.values()
        )
        if inner or not isinstance(node.graph, ir.Graph) or not all(map(idle, node.outputs)):
            continue
        inputs = [item for item in node.inputs if item is not None]
        node.graph.remove(node, safe=True)
        stack += inputs


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Let a new value stand for an old one, under its name; what only that needed goes."""
    name = old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    old.name = f"{name}_replaced"
    prune([old])
    new.name = name


def give_way(node: ir.Node, replacement: ir.Value) -> None:
    """Let everybody read `replacement` in place of what the node gives, and drop the node."""
    ir.convenience.replace_all_uses_with(node.outputs[0], replacement, replace_graph_outputs=True)
    prune(node.outputs)


def replace_output(graph: ir.Graph, name: str, value: ir.Value, aside: str) -> ir.Value:
    """Let a value be the output of that name, with its words; the old one, then called `aside`.

    Type and shape are the caller's to say, and to prune the old one once nothing is read of it.
    """
    index = next(i for i, item in enumerate(graph.outputs) if item.name == name)
    old = graph.outputs[index]
    graph.outputs[index] = value
    old.name, value.name = aside, name
    value.doc_string = old.doc_string
    value.metadata_props.update(old.metadata_props)
    return old
