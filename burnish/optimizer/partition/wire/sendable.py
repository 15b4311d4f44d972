"""Which values may be sent in fewer bits: activations with a row of features for each token."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import OPERANDS, THROUGH
from burnish.optimizer.partition.chain import Chain, Shapes
from burnish.optimizer.partition.wire.kinds import sent

FEATURES = 16
"""Least features of a token: of fewer, the scale of int8 would be a good part."""

SMALL = 1 << 12
"""Bytes below which a value is sent as it is: the link's latency is what it costs."""

BESIDE = {"Attention": 3, "MultiHeadAttention": 3, "GroupQueryAttention": 3}
"""Attentions as one operator, and the first input that is neither query, key nor value."""


@dataclass(frozen=True)
class Sendable:
    """A value that may be sent in fewer bits.

    Attributes:
        shape: at the sizes of the plan.
        itemsize: bytes of an element.
        axis: that of the features, from the end (-1 for the last).
    """

    shape: tuple[int, ...]
    itemsize: float
    axis: int = -1

    def bytes_as(self, kind: str) -> float:
        """Bytes in an encoding."""
        return sent(kind, self.shape, self.itemsize, self.axis)


def sendable(model: ir.Model, chain: Chain, shapes: Shapes) -> dict[str, Sendable]:
    """By name, the values that cross some cut and may be sent in fewer bits.

    Those are floats with a fixed number of features along some axis, of which the last is taken
    (keys that wait for their product have tokens behind it). Masks and biases, whose
    lowest number would be the scale of all others, are none, and neither are scores; they are told
    by what reads them, a softmax. Outputs of the model (caches) go to the caller as they are.
    """
    crossing = {name for names in chain.crossing for name in names}
    scores = _scores(model)
    found = {}
    for node in chain.nodes:
        for value in node.outputs:
            name, kind = value.name or "", value.dtype
            if name not in crossing or value.is_graph_output() or value in scores:
                continue
            if kind is None or not kind.is_floating_point() or kind.itemsize < 2:
                continue
            shape = shapes.get(name)
            axis = _features(value, shape) if shape is not None else None
            if shape is None or axis is None:
                continue
            if math.prod(shape) * kind.itemsize >= SMALL:
                found[name] = Sendable(shape, kind.itemsize, axis)
    return found


def _features(value: ir.Value, shape: tuple[int, ...]) -> int | None:
    """The last axis, from the end, that has one size whatever goes in; None where none has."""
    if value.shape is None or len(shape) < 2 or len(value.shape) != len(shape):
        return None
    sizes = list(enumerate(value.shape))
    fixed = [i for i, size in sizes if isinstance(size, int) and size >= FEATURES]
    return fixed[-1] - len(shape) if fixed else None


def _scores(model: ir.Model) -> set[ir.Value]:
    """What a softmax reads, back to the products that it comes from: scores, masks, biases."""
    stack: list[ir.Value | None] = []
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type in ("Softmax", "LogSoftmax"):
            stack.append(node.inputs[0])
        elif node.op_type in BESIDE:
            stack += node.inputs[BESIDE[node.op_type] :]
    found: set[ir.Value] = set()
    while stack:
        value = stack.pop()
        if value is None or value in found:
            continue
        found.add(value)
        maker = value.producer()
        if maker is not None and maker.op_type in THROUGH and maker.op_type not in OPERANDS:
            stack += _handed_on(maker)
    return found


def _handed_on(node: ir.Node) -> Iterable[ir.Value | None]:
    places = THROUGH[node.op_type] or range(len(node.inputs))
    return [node.inputs[place] for place in places if place < len(node.inputs)]
