"""Which places stay in float where int8 everywhere exceeds the user's budget.

Places are of a kind where they have the same sizes. What a kind costs is measured by leaving it in
float, and so is each place of the kind that costs most. This is a coarse search: it takes one run
per kind and a few more, not one per place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.products import find_products

MOST_ALONE = 8
"""Places that are tried one by one."""


@dataclass(frozen=True)
class Place:
    """A value that int8 changed.

    Attributes:
        name: of the value.
        kind: sizes of the product that gives it, or "lookups".
        error: relative L2 error of the value by itself.
        parameters: weights behind it.
    """

    name: str
    kind: str
    error: float
    parameters: int


def places(model: ir.Model, errors: Mapping[str, float]) -> list[Place]:
    """The places behind the errors that a check of int8 found, worst first."""
    products = {product.output.name: product for product in find_products(model)[0]}
    tables = {
        node.outputs[0].name: math.prod(node.inputs[0].const_value.shape.numpy())
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.op_type == "Gather" and node.inputs[0] and node.inputs[0].const_value is not None
    }
    found = []
    for name, error in errors.items():
        if product := products.get(name):
            kind, parameters = f"products of {product.k} x {product.n}", product.k * product.n
        else:
            kind, parameters = "lookups", tables.get(name, 1)
        found.append(Place(name, kind, error, parameters))
    return sorted(found, key=lambda place: (-place.error, place.name))


def kinds(found: list[Place]) -> dict[str, tuple[str, ...]]:
    """Names of the places by kind."""
    groups: dict[str, tuple[str, ...]] = {}
    for place in found:
        groups[place.kind] = (*groups.get(place.kind, ()), place.name)
    return groups


def rank(found: list[Place], gains: Mapping[str, float]) -> list[str]:
    """The kinds that gain anything, most for their weights first.

    Args:
        found: see `places`.
        gains: what leaving a whole kind in float takes from the loss.
    """
    weights = dict.fromkeys(gains, 1)
    for place in found:
        weights[place.kind] += place.parameters
    useful = [kind for kind in gains if gains[kind] > 0]
    return sorted(useful, key=lambda kind: gains[kind] / weights[kind], reverse=True)


def ladder(
    found: list[Place], order: list[str], gains: Mapping[str, float]
) -> Iterator[tuple[str, ...]]:
    """Ever larger sets of places: 1, 2, 4, ... of the first kind, then of the next beside it.

    Args:
        found: see `places`.
        order: kinds, see `rank`.
        gains: what leaving single places in float takes from the loss, where that was measured.
    """
    kept: tuple[str, ...] = ()
    for kind in order:
        members = [place.name for place in found if place.kind == kind]
        members.sort(key=lambda name: gains.get(name, 0.0), reverse=True)
        count = 1
        while count < len(members):
            yield tuple(sorted((*kept, *members[:count])))
            count *= 2
        kept = (*kept, *members)
        yield tuple(sorted(kept))
