"""What a run costs: multiplications of matrix products, from shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import OPERANDS, given, subgraphs
from burnish.optimizer.analysis.costs.attentions import GEOMETRIES, geometry, shape_of

Shapes = Mapping[str, tuple[int, ...]]

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
"""Convolutions: the input that holds the kernel."""


@dataclass(frozen=True)
class Cost:
    """The work of one node.

    Attributes:
        flops: floating point operations, a multiplication with an addition counted as two; None
            where shapes are not known.
        projection: how much of it multiplies with weights, in an attention that does so itself.
    """

    node: ir.Node
    flops: float | None
    projection: float = 0.0


def costs(graph: ir.Graph, shapes: Shapes) -> list[Cost]:
    """The matrix products of a graph and its subgraphs for the given shapes.

    Elementwise work is not counted. Of an `If` the costlier branch counts, of a loop one round.
    """
    found: list[Cost] = []
    for node in graph:
        bodies = [costs(body, shapes) for body in subgraphs(node)]
        if node.op_type == "If" and bodies:
            bodies = [max(bodies, key=lambda body: sum(item.flops or 0.0 for item in body))]
        for body in bodies:
            found.extend(body)
        cost = _cost(node, shapes)
        if cost is not None:
            found.append(cost)
    return found


def matrix_flops(model: ir.Model, shapes: Shapes) -> dict[str, float]:
    """Floating point operations of the matrix products, by operator; see `costs`.

    Nodes whose shapes are not known count as nothing.
    """
    totals: Counter[str] = Counter()
    for cost in costs(model.graph, shapes):
        if cost.flops:
            totals[cost.node.op_type] += cost.flops  # type: ignore[assignment]
    return dict(totals)


def _cost(node: ir.Node, shapes: Shapes) -> Cost | None:
    if (node.domain, node.op_type) in GEOMETRIES:
        found = geometry(node, shapes)
        mixing = found.flops if found is not None else None
        projection = 2.0 * found.projected if found is not None else 0.0
        return Cost(node, None if mixing is None else mixing + projection, projection)
    if node.op_type in CONVOLUTIONS:
        return Cost(node, _convolution(node, shapes))
    if node.op_type == "Einsum":
        return Cost(node, _einsum(node, shapes)) if len(node.inputs) > 1 else None
    return Cost(node, _product(node, shapes)) if node.op_type in OPERANDS else None


def _product(node: ir.Node, shapes: Shapes) -> float | None:
    left_place, right_place = OPERANDS[node.op_type]
    left = shape_of(given(node, left_place), shapes)
    output = shape_of(node.outputs[0], shapes)
    if not left:
        return None
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        columns = node.attributes.get_int("N", 0)
        return 2.0 * math.prod(left) * columns if columns else None
    turned = node.attributes.get_int("transA", 0) == 1 and len(left) > 1
    inner = left[-2] if turned else left[-1]
    if output is None:
        right = shape_of(given(node, right_place), shapes)
        output = _product_shape(node, left, right, turned) if right else None
    return 2.0 * math.prod(output) * inner if output is not None else None


def _product_shape(
    node: ir.Node, left: tuple[int, ...], right: tuple[int, ...], turned: bool
) -> tuple[int, ...]:
    across = node.attributes.get_int("transB", 0) == 1 and len(right) > 1
    rows = left[-1:] if turned else left[-2:-1]
    columns = right[-2:-1] if across else right[-1:] if len(right) > 1 else ()
    outer = max(left[:-2], right[:-2], key=lambda sizes: (len(sizes), math.prod(sizes)))
    return (*outer, *rows, *columns)


def _convolution(node: ir.Node, shapes: Shapes) -> float | None:
    place = CONVOLUTIONS[node.op_type]
    kernel = shape_of(given(node, place), shapes)
    # A transposed one multiplies each element that it reads with the kernels, not that it writes.
    spread = node.op_type == "ConvTranspose"
    places = shape_of(given(node, 0) if spread else node.outputs[0], shapes)
    if kernel is None or places is None:
        return None
    return 2.0 * math.prod(places) * math.prod(kernel[1:])


def _einsum(node: ir.Node, shapes: Shapes) -> float | None:
    """Work of summing products over the letters, the operands taken together one after another."""
    equation = node.attributes.get_string("equation", "") or ""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    known = [shape_of(value, shapes) for value in node.inputs]
    if len(terms) != len(known):
        return None
    sizes: dict[str, int] = {}
    outer: tuple[int, ...] = ()
    for term, shape in zip(terms, known, strict=True):
        before, dots, after = term.partition("...")
        free = len(shape) - len(before) - len(after) if shape is not None else -1
        if shape is None or free < 0 or (free and not dots):
            return None
        middle = shape[len(before) : len(before) + free]
        outer = max(outer, middle, key=lambda item: (len(item), math.prod(item)))
        lengths = (*shape[: len(before)], *shape[len(before) + free :])
        for letter, size in zip(before + after, lengths, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return 2.0 * (len(terms) - 1) * math.prod(sizes.values()) * math.prod(outer)
