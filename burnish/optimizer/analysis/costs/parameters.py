"""Where the weights of a model are: by layer and by what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Flow, operands
from burnish.optimizer.analysis.costs.products import CONVOLUTIONS, Cost
from burnish.optimizer.analysis.costs.work import Places
from burnish.optimizer.model import initializers
from burnish.optimizer.roles import TABLES

LARGEST = 8
"""Weights that are told one by one."""

SMALLEST = 1024
"""Bytes of integers below which they are shapes, axes and the like."""

FARTHEST = 16
"""Nodes between a weight and what multiplies it, such as its transpose."""


@dataclass
class Parameters:
    """Elements of weights.

    Attributes:
        by_part: `embeddings`, `projections`, `feed_forward`, `attention`, `convolution`, `head`
            and `other` (biases, normalizations, tables that are added).
        by_layer: by layer, of the same parts; None for what comes behind the last one.
        largest: the largest weights: name, shape, type, bytes, part and layer.
    """

    by_part: dict[str, int] = field(default_factory=dict)
    by_layer: dict[int | None, dict[str, int]] = field(default_factory=dict)
    largest: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The weights as the report shows them; the layer of the head is null."""
        order = sorted(self.by_layer.items(), key=lambda item: (item[0] is None, item[0] or 0))
        return {
            "by_part": self.by_part,
            "by_layer": [{"layer": layer, **parts} for layer, parts in order],
            "largest": self.largest,
        }


def parameters(model: ir.Model, places: Places) -> Parameters:
    """The weights of a model; one that several places read counts at the first of them.

    Args:
        model: whose large weights are mapped; none of them is read.
        places: of that model.
    """
    flow = places.flow
    order = {node: index for index, node in enumerate(flow.nodes)}
    found, rows = Parameters(), []
    for value in initializers(model):
        tensor = value.const_value
        assert tensor is not None
        if not tensor.dtype.is_floating_point() and tensor.nbytes < SMALLEST:
            continue
        users = [item for item in _users(value, flow) if item[0] in order]
        layer, part = None, "other"
        if users:
            node, place = min(users, key=lambda item: order[item[0]])
            layer, part = _place(node, place, places)
            if part == "other" and len({places.layer_of(item) for item, _ in users}) > 1:
                layer = 0  # a table that several layers share
        parts = found.by_layer.setdefault(layer, {})
        parts[part] = parts.get(part, 0) + tensor.size
        found.by_part[part] = found.by_part.get(part, 0) + tensor.size
        rows.append((tensor.nbytes, value, part, layer))
    rows.sort(key=lambda row: (-row[0], row[1].name or ""))
    found.largest = [
        {
            "name": value.name or "",
            "shape": [int(size) for size in value.const_value.shape.numpy()],
            "dtype": value.const_value.dtype.name,
            "bytes": size,
            "part": part,
            "layer": layer,
        }
        for size, value, part, layer in rows[:LARGEST]
        if value.const_value is not None
    ]
    return found


def _users(value: ir.Value, flow: Flow) -> Iterator[tuple[ir.Node, int]]:
    """The nodes that bring a weight and data together, and the weight's place in them."""
    near, seen = [value], {value}
    for current in near:  # grows while it is walked
        for node, index in current.uses():
            if any(map(flow.is_data, node.inputs)):
                yield node, index
            elif len(near) < FARTHEST:
                fresh = [item for item in node.outputs if item not in seen]
                seen.update(fresh)
                near.extend(fresh)


def _place(node: ir.Node, index: int, places: Places) -> tuple[int | None, str]:
    """Layer and part of a weight that a node reads there."""
    if any(index == table for _, table in TABLES.get((node.domain, node.op_type), ())):
        return places.layer_of(node), "embeddings"
    factors = operands(node)
    if (factors and index < 2) or node.op_type in CONVOLUTIONS:
        layer, part = places.of(Cost(node, None))
        return layer, "head" if layer is None else part
    return places.layer_of(node), "other"
