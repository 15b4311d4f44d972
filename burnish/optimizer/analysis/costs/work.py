"""Where the work of a run is: by kind, and layer by layer.

A layer begins with the projections of an attention and ends before those of the next; layer 0 is
what comes before the first attention. Attentions beside each other belong to one layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.attention import OPERATORS, attentions
from burnish.optimizer.analysis.anchors.flow import (
    OPERANDS,
    SIZES,
    Flow,
    handed_on,
    operands,
    readers,
)
from burnish.optimizer.analysis.anchors.normalization import OPERATORS as NORMALIZATIONS
from burnish.optimizer.analysis.costs.products import CONVOLUTIONS, Cost, costs

RESIDUALS = ("Add", "Sum", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")


@dataclass
class Work:
    """Floating point operations of the matrix products.

    Attributes:
        by_operator: by operator.
        by_kind: `linear`, `attention`, `convolution` and `other`.
        by_layer: by layer, of the parts `projections`, `attention`, `feed_forward`,
            `convolution` and `other`.
        head: of linear layers behind the last sum with what goes around a layer.
        unknown: nodes whose shapes are not known, which count as nothing.
    """

    by_operator: dict[str, float] = field(default_factory=dict)
    by_kind: dict[str, float] = field(default_factory=dict)
    by_layer: dict[int, dict[str, float]] = field(default_factory=dict)
    head: float = 0.0
    unknown: int = 0

    def as_json(self) -> dict[str, Any]:
        """The work as the report shows it."""
        layers = sorted(self.by_layer.items())
        return {
            "total": sum(self.by_operator.values()),
            "unknown": self.unknown,
            "by_operator": self.by_operator,
            "by_kind": self.by_kind,
            "by_layer": [{"layer": layer, **parts} for layer, parts in layers],
            "head": self.head,
        }

    def add(self, operator: str, layer: int | None, part: str, flops: float) -> None:
        """Count some work; a layer of None is the head."""
        if not flops:
            return
        kind = "linear" if part in ("projections", "feed_forward") else part
        self.by_operator[operator] = self.by_operator.get(operator, 0.0) + flops
        self.by_kind[kind] = self.by_kind.get(kind, 0.0) + flops
        if layer is None:
            self.head += flops
            return
        parts = self.by_layer.setdefault(layer, {})
        parts[part] = parts.get(part, 0.0) + flops


def work(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Work:
    """The work of a run with values of these shapes."""
    places, total = Places(model), Work()
    for cost in costs(model.graph, shapes):
        if cost.flops is None:
            total.unknown += 1
            continue
        layer, part = places.of(cost)
        total.add(cost.node.op_type, layer, part, cost.flops - cost.projection)
        total.add(cost.node.op_type, layer, "projections", cost.projection)
    return total


def layers(model: ir.Model) -> dict[ir.Node, int | None]:
    """The layer of every node that an output needs; None for what comes behind the last one."""
    places = Places(model)
    return {node: places.layer_of(node) for node in places.flow.nodes}


class Places:
    """Tells for each product which part of which layer it is, and for each node which layer.

    Attributes:
        flow: what the values of the model are made of.
    """

    def __init__(self, model: ir.Model) -> None:
        self.flow = flow = Flow(model)
        self._softmaxes = {item.node for item in attentions(flow)}
        self._depth: dict[ir.Value, int] = {}
        self._mixing: set[ir.Value] = set()  # from a softmax, on the way to its product
        self._mixed: set[ir.Value] = set()  # from an attention's result, before a linear layer
        self._scores: set[ir.Value] = set()  # on the way to a softmax
        self._towards: set[ir.Value] = set()  # on the way to an attention, past linear layers
        self._residual: set[ir.Value] = set()  # on the way to a sum with what goes around
        self._deepest = 0
        for node in flow.nodes:
            self._forward(node)
        for node in reversed(flow.nodes):
            for value in node.outputs:
                self._backward(value)

    def of(self, cost: Cost) -> tuple[int | None, str]:
        """Layer (None for the head) and part of a product."""
        node = cost.node
        result = node.outputs[0]
        depth = self._depth.get(result, 0)
        if node in self._softmaxes or self._is_mixing(node):
            return depth, "attention"
        if result in self._scores and node.op_type in OPERANDS:
            return depth + 1, "attention"
        if node.op_type in CONVOLUTIONS:
            return depth, "convolution"
        if not self._is_linear(node):
            return depth, "other"
        if result in self._towards:
            return depth + 1, "projections"
        if any(value in self._mixed for value in node.inputs):
            return depth, "projections"
        is_head = depth == self._deepest and result not in self._residual
        return (None if is_head else depth), "feed_forward"

    def layer_of(self, node: ir.Node) -> int | None:
        """Layer of a node that works on data; None for what comes behind the last layer."""
        if operands(node):
            return self.of(Cost(node, None))[0]
        result = node.outputs[0]
        depth = self._depth.get(result, 0)
        if node in self._softmaxes or any(value in self._mixing for value in node.inputs):
            return depth
        reading = [use.node for value in node.outputs for use in value.uses()]
        projected = [item for item in reading if self._is_linear(item)]
        # What only the projections of the next attention read is its normalization.
        leads = bool(projected) and len(projected) == len(reading)
        if result in self._towards or (
            leads and all(item.outputs[0] in self._towards for item in projected)
        ):
            return depth + 1
        if any(value in self._behind for value in node.inputs):
            return None
        behind = depth == self._deepest and result not in self._residual
        return None if behind and depth and not self._goes_around else depth

    @cached_property
    def _behind(self) -> set[ir.Value]:
        """The values that a head gives, and all that comes of them."""
        found: set[ir.Value] = set()
        for node in self.flow.nodes:
            head = bool(operands(node)) and self.of(Cost(node, None))[0] is None
            if head or any(value in found for value in node.inputs):
                found.update(node.outputs)
        return found

    @cached_property
    def _goes_around(self) -> bool:
        """Whether what is normalized goes around the layers: then the last one belongs to one."""
        return any(
            node.op_type in NORMALIZATIONS
            and self._depth.get(node.outputs[0], 0) > 0
            and any(True for _ in readers(node.outputs[0], *RESIDUALS))
            for node in self.flow.nodes
        )

    def _is_linear(self, node: ir.Node) -> bool:
        values = operands(node)
        return bool(values) and not self.flow.is_product(node)

    def _is_mixing(self, node: ir.Node) -> bool:
        return any(value in self._mixing for value in operands(node))

    def _forward(self, node: ir.Node) -> None:
        if node.op_type in SIZES:
            return
        operator = (node.domain, node.op_type) in OPERATORS
        inputs = [value for value in node.inputs if value is not None]
        depth = max((self._depth.get(value, 0) for value in inputs), default=0)
        depth += node in self._softmaxes
        self._deepest = max(self._deepest, depth)
        self._depth.update(dict.fromkeys(node.outputs, depth))
        softmax = node in self._softmaxes and not operator
        if softmax or any(value in self._mixing for value in handed_on(node)):
            self._mixing.update(node.outputs)
        passes = node.op_type not in OPERANDS and any(value in self._mixed for value in inputs)
        if operator or self._is_mixing(node) or passes:
            self._mixed.update(_content(node))

    def _backward(self, value: ir.Value) -> None:
        for node, index in value.uses():
            if node.op_type in SIZES:
                continue
            operator = (node.domain, node.op_type) in OPERATORS
            handed = any(value is item for item in handed_on(node))
            if (node in self._softmaxes and not operator) or (
                handed and any(item in self._scores for item in _content(node))
            ):
                self._scores.add(value)
            if (operator and index < 3) or self._leads_on(node):
                self._towards.add(value)
            data = [item for item in node.inputs if self.flow.is_data(item)]
            if (node.op_type in RESIDUALS and len(data) > 1) or any(
                item in self._residual for item in _content(node)
            ):
                self._residual.add(value)

    def _leads_on(self, node: ir.Node) -> bool:
        """Whether a reader of a value is part of an attention, or leads to one."""
        if node.op_type in OPERANDS:
            scores = any(item in self._scores for item in node.outputs)
            return scores or self._is_mixing(node)
        return any(item in self._towards for item in _content(node))


def _content(node: ir.Node) -> Sequence[ir.Value]:
    """The outputs that hold what a node makes of its input; scales go around the next product."""
    return node.outputs[:1] if node.op_type == "DynamicQuantizeLinear" else node.outputs
