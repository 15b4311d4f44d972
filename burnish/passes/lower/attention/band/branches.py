"""Two ways to compute the same values, one of which runs: chosen by how many keys there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import rank
from burnish.optimizer.regions import inner_nodes
from burnish.passes.lower.attention.writer import Writer

Pair = tuple[ir.Value, ir.Value]


def choose(
    writer: Writer, before: ir.Node, condition: ir.Value, pairs: Sequence[Pair]
) -> list[ir.Value]:
    """The first of each pair where the condition holds, else the second.

    What is computed for one side only moves into that side's branch.
    """
    branches = [
        _branch(writer.graph, [pair[side] for pair in pairs], f"{'dense' if side else 'banded'}")
        for side in (0, 1)
    ]
    return _if(writer.graph, before, condition, branches, [pair[0] for pair in pairs])


def share(writer: Writer, condition: ir.Value) -> None:
    """Move what only branches on one side of a condition need behind that condition as well.

    Layers share positions and masks, so that these were in none of their branches alone.
    """
    graph = writer.graph
    chosen = [node for node in graph if node.op_type == "If" and node.inputs[0] is condition]
    for side, name in enumerate(("then_branch", "else_branch")):
        inside = {
            inner
            for node in chosen
            for inner in ir.traversal.RecursiveGraphIterator(node.attributes[name].as_graph())
        }
        read = dict.fromkeys(
            value
            for node in inside
            for value in node.inputs
            if value is not None and value.producer() is not None and value.graph is graph
        )
        moved = _exclusive(read, inside)
        wanted = [value for value in read if value.producer() in moved]
        if not wanted:
            continue
        first = chosen[0]
        sides = [_moved(graph, wanted, moved, f"shared_{side}"), _nothing(wanted)]
        results = _if(graph, first, condition, sides if side == 0 else sides[::-1], wanted)
        for old, new in zip(wanted, results, strict=True):
            for use in list(old.uses()):
                if use.node in inside:
                    use.node.replace_input_with(use.idx, new)


def _if(
    graph: ir.Graph,
    before: ir.Node,
    condition: ir.Value,
    branches: Sequence[ir.Graph],
    like: Sequence[ir.Value],
) -> list[ir.Value]:
    names = ("then_branch", "else_branch")
    attributes = [ir.AttrGraph(*pair) for pair in zip(names, branches, strict=True)]
    node = ir.Node("", "If", [condition], attributes, num_outputs=len(like))
    graph.insert_before(before, node)
    for output, value in zip(node.outputs, like, strict=True):
        output.type = value.type
    return list(node.outputs)


def _branch(graph: ir.Graph, results: Sequence[ir.Value], name: str) -> ir.Graph:
    """A subgraph of the nodes that compute values for nobody else, which leave the graph."""
    return _moved(graph, results, _exclusive(results, set()), name)


def _exclusive(results: Iterable[ir.Value], readers: set[ir.Node]) -> set[ir.Node]:
    """Nodes whose results nobody reads but these readers and the nodes themselves."""
    ends, found = set(results), set[ir.Node]()
    stack = [value.producer() for value in ends]
    while stack:
        node = stack.pop()
        if node is None or node in found or inner_nodes(node):
            continue
        free = all(
            not output.is_graph_output()
            and all(use.node in found or use.node in readers for use in output.uses())
            for output in node.outputs
        )
        if free:
            found.add(node)
            stack += [value.producer() for value in node.inputs if value is not None]
    return found


def _moved(
    graph: ir.Graph, results: Sequence[ir.Value], nodes: set[ir.Node], name: str
) -> ir.Graph:
    ordered = [node for node in graph if node in nodes]
    graph.remove(ordered)
    outputs = []
    for value in results:
        if value.producer() not in nodes or value in outputs:
            # It is computed in front of the condition: a branch has outputs of its own.
            same = ir.node("Identity", [value])
            same.outputs[0].name = f"{value.name}_{name}"
            same.outputs[0].type, same.outputs[0].shape = value.type, value.shape
            ordered.append(same)
            value = same.outputs[0]
        outputs.append(value)
    return ir.Graph([], outputs, nodes=ordered, name=name)


def _nothing(like: Sequence[ir.Value]) -> ir.Graph:
    """A subgraph that gives one zero for each value: nobody reads them."""
    nodes = []
    for value in like:
        assert value.dtype is not None
        zero = np.zeros((1,) * max(0, rank(value)), value.dtype.numpy())
        node = ir.node("Constant", [], {"value": ir.tensor(zero)})
        node.outputs[0].name = f"{value.name}_unused"
        node.outputs[0].type = value.type
        nodes.append(node)
    return ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, name="nothing")
