"""The model of a rank, cut where ranks are brought together: each part is plain ONNX."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.regions import captured, cut


@dataclass(frozen=True)
class Part:
    """A part of a rank's model.

    Attributes:
        inputs: names of what it takes: of the model's inputs, and of what earlier parts gave.
        outputs: names of what it gives to later parts of its rank, or to the caller.
    """

    model: ir.Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def rank_parts(model: ir.Model, together: Collection[str]) -> list[Part]:
    """The parts of a rank's model.

    Args:
        model: of the rank; its values know their types.
        together: names of the values that ranks add up or gather.
    """
    level = _levels(model, together)
    last, read = max(level.values(), default=0), _last_reads(model, level)
    ports = {value: index for index, value in enumerate(model.graph.inputs)}
    results = list(model.graph.outputs)
    found = []
    for number in range(last + 1):
        nodes = [node for node in model.graph if level.get(node) == number]
        outputs = [
            value
            for node in nodes
            for value in node.outputs
            if value.is_graph_output() or read.get(value, -1) > number
        ]
        if number == last:
            outputs += [value for value in results if value.producer() not in level]
        outputs.sort(key=lambda value: (value not in results, _index(results, value)))
        if not outputs:
            continue
        inside = set(nodes)
        inputs = {
            value: None
            for node in nodes
            for value in captured(node)
            if _comes(value, inside, level)
        }
        names = [value.name or "" for value in outputs]
        ordered = sorted(inputs, key=lambda value: (ports.get(value, len(ports)), value.name or ""))
        taken = [value.name or "" for value in ordered]
        made = cut(model, taken, names)
        given = {value.name: value for value in made.graph.outputs}
        made.graph.outputs[:] = [given[name] for name in names]
        found.append(Part(made, tuple(taken), tuple(names)))
    return found


def _levels(model: ir.Model, together: Collection[str]) -> dict[ir.Node, int]:
    """How often ranks meet before each node; none of nodes that constants alone decide."""
    found: dict[ir.Node, int] = {}
    inputs = {value for value in model.graph.inputs if value.const_value is None}
    for node in model.graph:
        levels = []
        for value in captured(node):
            maker = value.producer()
            if value in inputs:
                levels.append(0)
            elif maker in found:
                levels.append(found[maker] + (value.name in together))
        if levels:
            found[node] = max(levels)
    return found


def _last_reads(model: ir.Model, level: Mapping[ir.Node, int]) -> dict[ir.Value, int]:
    """The last level at which each value is read."""
    found: dict[ir.Value, int] = {}
    for node in model.graph:
        for value in captured(node):
            found[value] = max(found.get(value, -1), level.get(node, -1))
    return found


def _comes(value: ir.Value, inside: set[ir.Node], level: dict[ir.Node, int]) -> bool:
    maker = value.producer()
    if maker is None:
        return value.is_graph_input() and value.const_value is None
    return maker in level and maker not in inside


def _index(values: list[ir.Value], value: ir.Value) -> int:
    return values.index(value) if value in values else 0
