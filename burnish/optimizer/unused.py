"""Take away what a rewrite has left without readers."""

from __future__ import annotations

import onnx_ir as ir


def remove_unused(value: ir.Value | None) -> None:
    """Remove the producer of a value that nothing reads, and what only that read.

    Initializers that lose their last reader go, too. Does nothing where the value is read, or is
    an output of its graph.
    """
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if current is None:
            continue
        node = current.producer()
        if node is None:
            _forget(current)
            continue
        if node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        inputs = list(node.inputs)
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(node, safe=True)
        waiting += inputs


def _forget(value: ir.Value) -> None:
    graph = value.graph
    if isinstance(graph, ir.Graph) and not value.uses() and not value.is_graph_output():
        initializers = graph.initializers
        if initializers.get(value.name or "") is value:
            del initializers[value.name or ""]
