"""Normalizations: means of squares under a square root that divides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, number, source

OPERATORS = {
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "GroupNormalization",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "InstanceNormalization",
    "EmbedLayerNormalization", "QEmbedLayerNormalization", "SkipGroupNorm", "GroupNorm",
}  # fmt: skip
"""Normalizations that are one operator."""

SHAPING = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Transpose")
SCALING = ("Add", "Sub", "Mul", "Div", "Max", "Clip", "Relu", "Abs", *SHAPING)

FARTHEST = 10
"""Nodes between a mean of squares and what it divides."""

MOST = 40
"""Values that are looked at on the way."""


def normalizations(flow: Flow) -> Iterator[Anchor]:
    """The normalizations of a model, in order.

    A mean of squares that is a loss, or whose root is an output, normalizes nothing.
    """
    for node in flow.nodes:
        if node.op_type in OPERATORS:
            yield Anchor("normalization", node, node.op_type, found=True)
            continue
        squared = _squared(node)
        if squared is None or not flow.is_data(squared):
            continue
        search = _Search(flow, counted=node.op_type == "ReduceMean")
        if not search.divides(node.outputs[0]):
            continue
        before = source(squared, SHAPING)
        centre = before.producer() if before is not None else None
        centred = search.centred or (centre is not None and centre.op_type == "Sub")
        form = "LayerNormalization" if centred else "RMSNormalization"
        yield Anchor("normalization", node, form, parts=tuple(search.parts))


def _squared(node: ir.Node) -> ir.Value | None:
    """The value whose squares `node` adds or averages."""
    if node.op_type == "ReduceSumSquare":
        return given(node, 0)
    if node.op_type not in ("ReduceMean", "ReduceSum") or node.domain != "":
        return None
    value = source(given(node, 0), SHAPING)
    square = value.producer() if value is not None else None
    if square is None:
        return None
    if square.op_type == "Mul" and given(square, 0) is given(square, 1):
        return given(square, 0)
    power = square.op_type == "Pow" and number(given(square, 1)) == 2.0
    return given(square, 0) if power else None


@dataclass
class _Search:
    """Walks from a sum of squares to what it divides.

    Attributes:
        counted: whether the squares have been divided by their count.
        centred: whether the square of the mean is subtracted.
    """

    flow: Flow
    counted: bool
    centred: bool = False

    def __post_init__(self) -> None:
        self.parts: list[ir.Node] = []
        self._seen: set[tuple[ir.Value, bool]] = set()

    def divides(self, value: ir.Value, rooted: bool = False, steps: int = 0) -> bool:
        """Whether a node after `value` divides by it, once its root has been taken."""
        if steps > FARTHEST or (value, rooted) in self._seen or len(self._seen) > MOST:
            return False
        self._seen.add((value, rooted))
        for node, index in value.uses():
            if rooted and node.op_type == "Div" and index == 1:
                return self._end(node)
            if rooted and node.op_type == "Reciprocal":
                return self._end(node)
            power = self._power(node, index)
            if power == -0.5 and self.counted and not rooted:
                return self._end(node)
            takes_root = power == 0.5 and self.counted and not rooted
            if (takes_root or self._hands_on(node, index, rooted)) and self.divides(
                node.outputs[0], rooted or takes_root, steps + 1
            ):
                self.parts.append(node)
                return True
        return False

    def _end(self, node: ir.Node) -> bool:
        self.parts.append(node)
        return True

    def _power(self, node: ir.Node, index: int) -> float | None:
        """The power that a node raises to; 1/Sqrt is told by what follows."""
        if node.op_type == "Sqrt":
            return 0.5
        return number(given(node, 1)) if node.op_type == "Pow" and index == 0 else None

    def _hands_on(self, node: ir.Node, index: int, rooted: bool) -> bool:
        if node.op_type not in SCALING or (index != 0 and node.op_type in SHAPING):
            return False
        others = [item for place, item in enumerate(node.inputs) if place != index]
        with_data = any(map(self.flow.is_data, others))
        if node.op_type == "Sub" and with_data and not rooted:
            self.centred = True
            return True
        if not rooted and node.op_type in ("Div", "Mul") and not with_data:
            self.counted = True
        return node.op_type in SHAPING or not with_data
