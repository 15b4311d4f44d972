"""Whole layers taken out of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.stream import Stream
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.pruning import prune
from burnish.optimizer.regions import captured


def spread(count: int, layers: int) -> list[int]:
    """So many of the layers, evenly spread, the first and the last among them."""
    if count == 1:
        return [0]
    return [round(index * (layers - 1) / (count - 1)) for index in range(count)]


def keep_layers(model: ir.Model, stream: Stream, kept: Sequence[int]) -> None:
    """Take all layers but these out of the main graph.

    Args:
        model: changed in place.
        stream: of that graph.
        kept: numbers of the layers that stay, from 0.

    Raises:
        UsageError: there is no such layer.
        UnsupportedModel: a layer has ports of its own, as caches are, or gives an output.
    """
    count = len(stream.layers)
    if any(not 0 <= number < count for number in kept) or not kept:
        raise UsageError(f"the model has {count} layers")
    for number in range(count):
        if number not in kept:
            _why_not(model, stream, number)
    now = stream.ends[0]
    for number, end in enumerate(stream.ends[1:]):
        if number in kept:
            now = end
            continue
        _replace(model.graph, end, now)
    prune(stream.ends)


def _why_not(model: ir.Model, stream: Stream, number: int) -> None:
    """Raise where others than the next layer need what a layer is given or gives."""
    start, end = stream.ends[number], stream.ends[number + 1]
    inside = _between(model.graph, start, end)
    for node in inside:
        for value in node.outputs:
            if value.is_graph_output() and value is not end:
                raise UnsupportedModel(f"layer {number} gives output {value.name}, and so stays")
        for value in captured(node):
            uses = {use.node for use in value.uses()}
            if value.is_graph_input() and uses <= inside:
                raise UnsupportedModel(f"layer {number} reads input {value.name}, and so stays")


def _between(graph: ir.Graph, start: ir.Value, end: ir.Value) -> set[ir.Node]:
    """The nodes that follow from one value and lead to another."""
    ahead: set[ir.Value] = {start}
    nodes = []
    for node in graph:
        if any(value in ahead for value in captured(node)):
            ahead.update(node.outputs)
            nodes.append(node)
    found: set[ir.Node] = set()
    wanted = {end}
    beyond = {node for node in _following(graph, end)}
    for node in reversed(nodes):
        if node not in beyond and (wanted.intersection(node.outputs) or _is_port(node)):
            found.add(node)
            wanted.update(captured(node))
    return found


def _is_port(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


def _following(graph: ir.Graph, start: ir.Value) -> set[ir.Node]:
    ahead, found = {start}, set[ir.Node]()
    for node in graph:
        if any(value in ahead for value in captured(node)):
            ahead.update(node.outputs)
            found.add(node)
    return found


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let everybody read another value; an output stays one, under its name."""
    if not old.is_graph_output():
        ir.convenience.replace_all_uses_with(old, new)
        return
    node = old.producer()
    assert node is not None
    same = ir.node("Identity", [new])
    graph.insert_after(node, same)
    copy = same.outputs[0]
    copy.type, copy.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, copy, replace_graph_outputs=True)
    old.name, copy.name = f"{old.name}_replaced", old.name
