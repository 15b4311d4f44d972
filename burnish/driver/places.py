"""What a compression changed: the places it may be gentler to, and which of them go together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.products import find_products, groups
from burnish.optimizer.regions import inner_nodes

LOOKUPS = "lookups"
"""The kind of what is read from tables."""


@dataclass(frozen=True)
class Place:
    """A value that a compression changed.

    Attributes:
        name: of the value.
        kind: sizes of the product that gives it and of those beside it, or `LOOKUPS`.
        error: relative L2 error of the value by itself.
        parameters: weights behind it.
        group: the same number for products of one activation, which get one form.
    """

    name: str
    kind: str
    error: float
    parameters: int
    group: int


def places(model: ir.Model, errors: Mapping[str, float]) -> list[Place]:
    """The places behind the errors that a check of a compression found, worst first.

    The error of a node with subgraphs is that of every place in them.

    Args:
        model: before the compression.
        errors: by the names of values.
    """
    known = _all(model)
    found = [
        replace(known[name], error=error)
        if name in known
        else Place(name, LOOKUPS, error, 1, -1 - index)
        for index, (name, error) in enumerate(_places_of(model, errors, {*known}).items())
    ]
    return sorted(found, key=lambda place: (-place.error, place.name))


def everything(model: ir.Model) -> frozenset[str]:
    """Names of all that a compression could change."""
    return frozenset(_all(model))


def _all(model: ir.Model) -> dict[str, Place]:
    """The places of a model by name, without errors."""
    found: dict[str, Place] = {}
    for index, members in enumerate(groups(find_products(model)[0])):
        kind = f"products of {members[0].k} x {'+'.join(str(item.n) for item in members)}"
        for item in members:
            name = item.output.name or ""
            found[name] = Place(name, kind, 0.0, item.k * item.n, index)
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    for index, node in enumerate(nodes, start=len(found)):
        if node.op_type == "Gather" and node.inputs[0] and node.inputs[0].const_value is not None:
            name, table = node.outputs[0].name or "", node.inputs[0].const_value
            found[name] = Place(name, LOOKUPS, 0.0, math.prod(table.shape.numpy()), index)
    return found


def _places_of(model: ir.Model, errors: Mapping[str, float], names: set[str]) -> dict[str, float]:
    """The errors by the names of places, which may lie in subgraphs of what was compared."""
    inside: dict[str, set[str]] = {}
    for node in model.graph:
        values = [value.name or "" for inner in inner_nodes(node) for value in inner.outputs]
        inside |= {output.name or "": names.intersection(values) for output in node.outputs}
    found: dict[str, float] = {}
    for name, error in errors.items():
        for place in inside.get(name) or {name}:
            found[place] = max(found.get(place, 0.0), error)
    return found


def together(found: Sequence[Place]) -> list[tuple[Place, ...]]:
    """The places that get one form, in order of the first of each."""
    units: dict[int, tuple[Place, ...]] = {}
    for place in found:
        units[place.group] = (*units.get(place.group, ()), place)
    return list(units.values())
