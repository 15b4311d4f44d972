"""The residual stream: the values that all of what comes later is computed from.

A Transformer hands one value from layer to layer, and all that a layer adds goes through it again.
So there are places where only one value crosses. Masks, positions and rotations, which follow from
other inputs or from sizes alone, cross everywhere and do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.attention import attentions
from burnish.optimizer.analysis.anchors.flow import SIZES, Flow
from burnish.optimizer.regions import captured
from burnish.optimizer.roles import TRANSPARENT, Role, Slot

RANK = 3
"""Axes of a value of the stream: rows, positions, channels."""


@dataclass(frozen=True)
class Stream:
    """The residual stream of a graph.

    Attributes:
        ends: values [batch, sequence, hidden], in order: what the first layer is given, then what
            each layer gives. Empty where there is no such stream.
        layers: the attentions of each layer, softmaxes where they are in plain operators.
    """

    ends: tuple[ir.Value, ...] = ()
    layers: tuple[tuple[ir.Node, ...], ...] = ()


def stream_of(
    model: ir.Model, slots: Sequence[Slot], shapes: Mapping[str, tuple[int, ...]]
) -> Stream:
    """The stream of the main graph, from its token ids or its picture on.

    Args:
        model: after recovery.
        slots: its inputs with their roles.
        shapes: of its values by name, as far as they are known.
    """
    flow = Flow(model)
    order = {node: index for index, node in enumerate(model.graph)}
    tracked = _tracked(model, slots)
    crossing = _alone(model, tracked, shapes)
    if not crossing:
        return Stream()
    places = [order[node] for value in crossing if (node := value.producer()) is not None]
    begun: dict[int, list[ir.Node]] = {}
    for anchor in attentions(flow):
        node = anchor.node
        if node not in order or not any(value in tracked for value in node.outputs):
            continue
        before = sum(place < order[node] for place in places) - 1
        if before >= 0 and _is_own(node, tracked):
            begun.setdefault(before, []).append(node)
    if not begun:
        return Stream()
    starts = sorted(begun)
    last = _last(crossing, starts)
    ends = [crossing[index] for index in (*starts, last)]
    return Stream(tuple(ends), tuple(tuple(begun[index]) for index in starts))


def _last(crossing: Sequence[ir.Value], starts: Sequence[int]) -> int:
    """Where the last layer ends: what follows may be a normalization of the same shape."""
    if len(starts) > 1:
        return min(starts[-1] + starts[-1] - starts[-2], len(crossing) - 1)
    kinds = [node.op_type for value in crossing if (node := value.producer()) is not None]
    same = [index for index in range(starts[0] + 1, len(kinds)) if kinds[index] == kinds[starts[0]]]
    return same[-1] if same else len(crossing) - 1


def _is_own(node: ir.Node, tracked: set[ir.Value]) -> bool:
    """Whether an attention is one of the stream with itself."""
    if node.op_type != "Attention":
        return True
    return all(value in tracked for value in node.inputs[:3])


def _alone(
    model: ir.Model, tracked: set[ir.Value], shapes: Mapping[str, tuple[int, ...]]
) -> list[ir.Value]:
    """The tracked values that cross a place of the graph alone, in the commonest shape."""
    nodes = list(model.graph)
    last = {value: index for index, node in enumerate(nodes) for value in captured(node)}
    alive: set[ir.Value] = set()
    found = []
    for index, node in enumerate(nodes):
        alive = {value for value in alive if last.get(value, 0) > index}
        made = (value for value in node.outputs if value in tracked)
        alive |= {v for v in made if last.get(v, 0) > index or v.is_graph_output()}
        if len(alive) == 1 and (value := next(iter(alive))).producer() is node:
            found.append(value)
    known = [shapes.get(value.name or "", ()) for value in found]
    common = Counter(shape for shape in known if len(shape) == RANK).most_common(1)
    return [v for v, shape in zip(found, known, strict=True) if common and shape == common[0][0]]


def _tracked(model: ir.Model, slots: Sequence[Slot]) -> set[ir.Value]:
    """Values that follow from what the main input looks up, or from the picture itself."""
    found = {*_sources(model, slots)}
    for node in model.graph:
        if node.op_type not in SIZES and any(value in found for value in captured(node)):
            found.update(node.outputs)
    return found


def _sources(model: ir.Model, slots: Sequence[Slot]) -> Iterator[ir.Value]:
    inputs = {value.name: value for value in model.graph.inputs}
    ids = max((s for s in slots if s.role is Role.IDS), key=lambda slot: slot.bound, default=None)
    if ids is None:
        yield from (
            inputs[slot.port.name]
            for slot in slots
            if slot.role is Role.NUMBERS and len(slot.port.shape or ()) >= RANK
        )
        return
    stack, seen = [inputs[ids.port.name]], set[ir.Value]()
    while stack:
        for node, place in stack.pop().uses():
            table = node.inputs[0]
            kind = table.dtype if table is not None and node.op_type == "Gather" else None
            if place == 1 and kind is not None and kind.is_floating_point():
                yield node.outputs[0]
            elif node.op_type in TRANSPARENT:
                stack += [value for value in node.outputs if value not in seen]
                seen.update(node.outputs)
