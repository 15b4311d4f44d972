"""Places where a graph may be split: what products and sums add up, tables, and last axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.partition.shards.flow import Goal, Sweep
from burnish.optimizer.partition.shards.layout import WHOLE, Layout, Parts
from burnish.optimizer.partition.shards.rules.products import summed, summed_letters
from burnish.optimizer.partition.shards.site import Site, integers

PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "MatMulNBits", "Einsum"}
"""Products whose sums may be split: parts of a sum of integers would be scaled otherwise."""

WITH_WEIGHTS = PRODUCTS | {
    "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "Conv",
}  # fmt: skip


KINDS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT32)
"""Types of results that are put beside each other; of products of integers, int32."""


@dataclass(frozen=True)
class Place:
    """Where an axis may be split.

    Attributes:
        node: it computes what is split, or adds it up.
        size: elements of the axis.
        adds: whether results are then summed over ranks, and not put beside each other.
        goal: of parts of the axis; None where the node cannot be run in these.
        port: whether what is split is an output of the model, which is gathered in any case.
    """

    node: ir.Node
    size: int
    adds: bool
    goal: Callable[[Parts, set[tuple[int, int]]], Goal | None]
    port: bool = False


def places(sweep: Sweep) -> Iterator[Place]:
    """All places of a graph whose axis is fixed and has an element for each rank."""
    for node in sweep.graph:
        for place in (*_sums(node, sweep), _reduction(node, sweep), _rows(node, sweep)):
            if place is not None and place.size >= sweep.ranks:
                yield place
        place = _columns(node, sweep)
        if place is not None and place.size >= sweep.ranks:
            yield place


def _sums(node: ir.Node, sweep: Sweep) -> Iterator[Place]:
    """What a product of matrices adds up; an Einsum may add up several axes."""
    if node.op_type not in PRODUCTS or len(node.inputs) < 2:
        return
    source = node.inputs[0]
    shape = sweep.facts.shape(source)
    if source is None or shape is None:
        return
    axes = [("", len(shape) - (2 if node.attributes.get_int("transA", 0) else 1))]
    if node.op_type == "Einsum":
        axes = summed_letters(node)
    for letter, axis in axes:
        if axis >= 0 and sweep.facts.fixed(source, axis):
            yield _sum(node, sweep, shape[axis], letter)


def _sum(node: ir.Node, sweep: Sweep, size: int, letter: str) -> Place:
    def goal(parts: Parts, units: set[tuple[int, int]]) -> Goal | None:
        site = Site(node, sweep.facts, sweep.ranks, [WHOLE])
        wants = summed(site, parts, letter)
        units |= site.units
        return None if wants is None else Goal(node, tuple(wants), share=parts.share)

    return Place(node, size, True, goal)


def _reduction(node: ir.Node, sweep: Sweep) -> Place | None:
    """A sum over an axis, as that over experts."""
    source, axes = given(node, 0), integers(given(node, 1))
    shape = sweep.facts.shape(source)
    if axes is None and node.attributes.get("axes") is not None:
        axes = list(node.attributes.get_ints("axes", ()))
    if node.op_type != "ReduceSum" or source is None or shape is None or not axes:
        return None
    axis = axes[0] % len(shape)
    if len(axes) > 1 or not sweep.facts.fixed(source, axis) or axis == len(shape) - 1:
        return None

    def goal(parts: Parts, units: set[tuple[int, int]]) -> Goal | None:
        others = (WHOLE for _ in node.inputs[1:])
        return Goal(node, (Layout.of({axis: parts}), *others), share=parts.share)

    return Place(node, shape[axis], True, goal)


def _rows(node: ir.Node, sweep: Sweep) -> Place | None:
    """Rows of a table: a rank that does not have a row gives zeros for it."""
    table, index = given(node, 0), given(node, 1)
    shape = sweep.facts.shape(table)
    if node.op_type != "Gather" or table is None or index is None or shape is None:
        return None
    axis = node.attributes.get_int("axis", 0)
    if table.const_value is None or len(shape) != 2 or axis != 0:
        return None
    if index.const_value is not None or not (table.dtype and table.dtype.is_floating_point()):
        return None

    def goal(parts: Parts, units: set[tuple[int, int]]) -> Goal | None:
        return Goal(node, (Layout.of({0: parts}), WHOLE), share=parts.share)

    return Place(node, shape[0], True, goal)


def _columns(node: ir.Node, sweep: Sweep) -> Place | None:
    """The last axis of a product with a weight, or of an output of the model."""
    value = node.outputs[0] if node.outputs else None
    shape = sweep.facts.shape(value)
    if value is None or not shape or len(shape) < 2:
        return None
    port = value.is_graph_output()
    weight = node.op_type in WITH_WEIGHTS and given(node, 1) is not None
    if not (port or weight) or value.dtype not in KINDS:
        return None
    axis = 1 if node.op_type == "Conv" else len(shape) - 1
    if not sweep.facts.fixed(value, axis):
        return None

    def goal(parts: Parts, units: set[tuple[int, int]]) -> Goal | None:
        return Goal(node, gives=Layout.of({axis: parts}), share=parts.share)

    return Place(node, shape[axis], False, goal, port)
