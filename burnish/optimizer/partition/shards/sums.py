"""Where parts of sums are added up: as late as that makes them fewer or smaller.

What is linear may be done to each part before they are added: two parts of sums that meet in an
addition (attention and feed-forward side by side) are reduced once, those of experts after the
experts' results are added up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.partition.shards.flow import Flow
from burnish.optimizer.partition.shards.site import constant

MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "ReduceSum", "ReduceMean"}
"""Operators whose first input may be a part of a sum."""

SCATTERS = {"ScatterElements", "ScatterND"}


@dataclass(frozen=True)
class Point:
    """A value that is a part of a sum on each rank.

    Attributes:
        value: it.
        reduced: values that are added up instead, as far as that is no better here.
        once: nodes on the way that add a constant.
    """

    value: ir.Value
    reduced: tuple[ir.Value, ...]
    once: tuple[ir.Node, ...] = ()


@dataclass
class Sums:
    """What is added up over ranks.

    Attributes:
        reduced: values, in order.
        once: nodes that add a constant to a part of a sum, which one rank alone does.
    """

    reduced: list[ir.Value] = field(default_factory=list)
    once: set[ir.Node] = field(default_factory=set)


def delayed(
    graph: ir.Graph, made: Collection[ir.Value], flow: Flow, sizes: Mapping[str, float]
) -> Sums:
    """Where the parts of sums that products make are added up.

    Args:
        graph: in order.
        made: parts of sums, as products make them.
        flow: what else is in parts.
        sizes: bytes of values by name.
    """
    points = {value: Point(value, (value,)) for value in made}
    gone: set[ir.Value] = set()
    for node in graph:
        parts = [value for value in node.inputs if value in points]
        if not parts or node in flow.wants or len(node.outputs) != 1:
            continue
        if not all(_alone(value) for value in parts) or not _linear(node, points):
            continue
        output = node.outputs[0]
        before = [points[value] for value in dict.fromkeys(parts) if value is not None]
        bytes_before = sum(sizes.get(p.name or "", 0.0) for item in before for p in item.reduced)
        after = sizes.get(output.name or "", float("inf"))
        if after > bytes_before:
            continue
        fewer = after < bytes_before or sum(len(item.reduced) for item in before) > 1
        adds = (node,) if _adds_constant(node, points) else ()
        once = sum((item.once for item in before), adds)
        reduced = (output,) if fewer else sum((item.reduced for item in before), ())
        points[output] = Point(output, reduced, once)
        gone.update(item.value for item in before)
    found = Sums()
    for value, point in points.items():
        if value not in gone:
            found.reduced += point.reduced
            found.once |= set(point.once) if value in point.reduced else _until(point, points)
    order = {value: index for index, node in enumerate(graph) for value in node.outputs}
    found.reduced = sorted(dict.fromkeys(found.reduced), key=lambda value: order[value])
    return found


def _until(point: Point, points: Mapping[ir.Value, Point]) -> set[ir.Node]:
    """Additions before the values that are reduced, and not those behind."""
    return {node for value in point.reduced for node in points[value].once}


def _alone(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _linear(node: ir.Node, points: Mapping[ir.Value, Point]) -> bool:
    """Whether a node does to a sum what it does to each part of it."""
    if node.domain:
        return False
    kind, given = node.op_type, [value in points for value in node.inputs]
    if kind in ("Add", "Sum"):
        rest = [value for value, part in zip(node.inputs, given, strict=True) if not part]
        return all(value is not None and value.const_value is not None for value in rest)
    if kind == "Mul":
        return sum(given) == 1
    if kind in ("Div", *MOVES):
        return given[0] and not any(given[1:])
    if kind in SCATTERS and node.attributes.get_string("reduction", "none") == "add":
        return given[2] and not given[1] and (given[0] or _is_zero(node.inputs[0]))
    return False


def _is_zero(value: ir.Value | None) -> bool:
    """Whether a value is zeros of any shape."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in ("Expand", "Identity", "Cast"):
        value = node.inputs[0]
        node = value.producer() if value is not None else None
    if node is not None and node.op_type == "ConstantOfShape":
        told = node.attributes.get("value")
        return told is None or not told.as_tensor().numpy().any()
    found = constant(value)
    return found is not None and not found.any()


def _adds_constant(node: ir.Node, points: Mapping[ir.Value, Point]) -> bool:
    return node.op_type in ("Add", "Sum") and any(
        value is not None and value not in points for value in node.inputs
    )
