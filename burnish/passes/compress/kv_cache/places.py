"""Caches of a decoder: inputs that an output continues, with new positions behind the old."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional, rank
from burnish.optimizer.contract import Refusal
from burnish.optimizer.forms import FUSED

INSIDE = {("", "Attention"): (4, 5), (FUSED, "MultiHeadAttention"): (6, 7),
          (FUSED, "GroupQueryAttention"): (3, 4)}  # fmt: skip
"""Operators that put new keys and values behind the past themselves, and the inputs of that."""

QUANTIZED = "GroupQueryAttention"
"""The one of them that takes integers."""


@dataclass(frozen=True)
class Place:
    """One cache.

    Attributes:
        past: the input, [batch, groups, positions, size].
        present: the output.
        node: gives the output: a `Concat` of the past and what is new, or `GroupQueryAttention`.
        groups, size: of the cache.
    """

    past: ir.Value
    present: ir.Value
    node: ir.Node
    groups: int
    size: int


def find(model: ir.Model, keep: Collection[str]) -> tuple[list[Place], list[Refusal]]:
    """The caches that can be kept in int8, and why others cannot.

    Args:
        model: its values say their shapes.
        keep: outputs of those that stay to keep to the budget.
    """
    found, refusals = [], []
    for past in model.graph.inputs:
        for node, index in past.uses():
            present = _continued(node, index)
            if present is None:
                continue
            place = _place(past, present, node, keep)
            if isinstance(place, Place):
                found.append(place)
            else:
                refusals.append(Refusal(past.name or "", place))
    return _paired(found, refusals)


def _continued(node: ir.Node, index: int) -> ir.Value | None:
    """The output that is the input with more behind it."""
    if node.op_type == "Concat" and node.domain == "":
        last = node.attributes.get_int("axis", 0) in (2, -2) and len(node.inputs) == 2
        output = node.outputs[0] if last and index == 0 else None
    else:
        places = INSIDE.get((node.domain, node.op_type), ())
        number = 1 + places.index(index) if index in places else len(node.outputs)
        output = node.outputs[number] if number < len(node.outputs) else None
    return output if output is not None and output.is_graph_output() else None


def _place(past: ir.Value, present: ir.Value, node: ir.Node, keep: Collection[str]) -> Place | str:
    """The cache, or why it stays as it is."""
    if present.name in keep:
        return "kept in fp32 to stay within the budget"
    if past.dtype is not ir.DataType.FLOAT:
        return f"it is in {past.dtype}"
    if node.op_type not in ("Concat", QUANTIZED):
        return f"{node.op_type} takes no integers, and grows the cache itself"
    if others := [use.node for use in past.uses() if use.node not in (node, *_measured(past))]:
        return f"{others[0].op_type} reads it as well"
    if rank(past) != 4 or past.shape is None:
        return f"it has {rank(past)} axes, not 4"
    groups, size = past.shape[1], past.shape[3]
    if not (isinstance(groups, int) and isinstance(size, int)):
        return "its heads or their size are not known"
    if node.op_type == QUANTIZED and (optional(node, 12) or optional(node, 13)):
        return "it has a scale already"
    return Place(past, present, node, groups, size)


def _measured(past: ir.Value) -> list[ir.Node]:
    """The nodes that ask for no more than a shape."""
    return [use.node for use in past.uses() if use.node.op_type in ("Shape", "Size")]


def _paired(found: list[Place], refusals: list[Refusal]) -> tuple[list[Place], list[Refusal]]:
    """Without caches of `GroupQueryAttention` whose other one is not among them: it takes both."""
    kept = []
    for place in found:
        together = [other for other in found if other.node is place.node]
        if place.node.op_type == QUANTIZED and len(together) != 2:
            reason = f"{QUANTIZED} takes integers for both of its caches or for none"
            refusals.append(Refusal(place.past.name or "", reason))
        else:
            kept.append(place)
    return kept, refusals
