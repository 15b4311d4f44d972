"""Whether every value has one definition, and the nodes an order."""

from __future__ import annotations

import graphlib

import onnx

from burnish.optimizer.admission.walk import Body, label, subgraphs
from burnish.optimizer.errors import InvalidModel


def admit_names(body: Body, outer: frozenset[str]) -> None:
    """Every value is defined once, and no node waits for itself."""
    given, initial, results = _ports(body)
    produced = [name for node in body.node for name in node.output if name]
    for names, kind in ((given, "input"), (initial, "initializer"), (produced, "value")):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidModel(f"{kind} {twice} is defined twice")
    clash = (set(given) | set(initial)) & set(produced)
    if clash:
        raise InvalidModel(f"value {min(clash)} is defined twice")
    base = outer | set(given) | set(initial)
    everything = base | set(produced)
    for node in body.node:
        for name in node.input:
            if name and name not in everything:
                raise InvalidModel(f"input {name} is not defined anywhere", place=label(node))
    for name in results:
        if name not in everything:
            raise InvalidModel(f"output {name} is not produced by any node")
    _admit_order(body, base)
    for node in body.node:
        for attribute in node.attribute:
            for subgraph in subgraphs(attribute):
                admit_names(subgraph, frozenset(everything))


def _ports(body: Body) -> tuple[list[str], list[str], list[str]]:
    """Names of inputs, of initializers and of outputs."""
    if isinstance(body, onnx.FunctionProto):
        return list(body.input), [], list(body.output)
    initial = [tensor.name for tensor in body.initializer]
    initial += [tensor.values.name for tensor in body.sparse_initializer]
    return [value.name for value in body.input], initial, [value.name for value in body.output]


def _admit_order(body: Body, base: frozenset[str]) -> None:
    """Raise where nodes form a cycle (a mere wrong order is mended on loading)."""
    producer = {name: index for index, node in enumerate(body.node) for name in node.output}
    order = graphlib.TopologicalSorter(
        {
            index: {
                producer[name] for name in _reads(node) if name in producer and name not in base
            }
            for index, node in enumerate(body.node)
        }
    )
    try:
        order.prepare()
    except graphlib.CycleError as error:
        place = label(body.node[error.args[1][0]])
        raise InvalidModel("nodes wait for each other in a cycle", place=place) from None


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node takes, those of its subgraphs from outside included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for subgraph in subgraphs(attribute):
            given, initial, results = _ports(subgraph)
            own = {*given, *initial, *(name for inner in subgraph.node for name in inner.output)}
            taken = set(results).union(*(_reads(inner) for inner in subgraph.node))
            names |= taken - own
    return names
