"""Attention within a window where the user asks for one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Causal, Mask, Masks
from burnish.optimizer.analysis.masks.reach import reach_of
from burnish.optimizer.analysis.matching import optional, rank, written_size
from burnish.optimizer.analysis.products import label
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Context, Kind, Outcome, Phase, Promise, Refusal, Sparing

BOOL, INT64 = ir.DataType.BOOL, ir.DataType.INT64

FLOPS = 1e8
"""Operations of an attention in a millisecond; only ratios of times count."""

DEFAULT = 128
"""Keys that a query sees where nobody says how many, as in ModernBERT's local layers."""


@dataclass(frozen=True)
class Window(Sparing):
    """Let each query see the keys around it only, an approximation.

    Each attention gets a window on top of its mask: `keys // 2` to either side, or, where its mask
    is causal, `keys` up to the query itself. The first `global_tokens` are seen by all, and see
    all that their mask lets them. `attention-form` then computes it in blocks. An attention in
    `keep` stays as it is; the search for a budget finds out which need the whole sequence.

    Before:
        `Attention(q, k, v, mask)`.
    After:
        `Attention(q, k, v, mask & |key - query| <= keys // 2)`.
    Refuses when:
        Queries and keys are of different sequences, the attention has a window no wider, its
        mask hides by several numbers, it is not among `layers` (numbers in the order of the
        graph, all where there are none), or its output is in `keep`.
    Numerics:
        Lossy: what queries took from keys outside of the window is gone, which at the place itself
        may be most of it, so that only the budget for the whole model bounds it. Exact for
        sequences that are no longer than the window's shorter side.
    """

    keys: int = DEFAULT
    global_tokens: int = 0
    layers: tuple[int, ...] = ()
    keep: tuple[str, ...] = ()

    name = "window"
    phase = Phase.COMPRESS
    promise = Promise(Kind.LOSSY, 4.0)
    asked = True
    kept_is = "the whole sequence"

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        shapes.annotate(model)
        nodes = [node for node in model.graph if node.op_type == "Attention" and not node.domain]
        masks, refusals, places = Masks(), [], []
        for number, node in enumerate(nodes):
            reason = self._refusal(number, node, masks)
            if reason:
                refusals.append(Refusal(label(node), reason))
            else:
                places.append((node, _mask(node, masks)))
        writer = _Writer(model.graph, self)
        times = {}
        for node, mask in places:
            writer.limit(node, mask)
            times[node.outputs[0].name or ""] = self._times(node, context)
        detail = f"{len(places)} attentions see {self.keys} keys" if places else "there is none"
        return Outcome(len(places), tuple(refusals), detail=detail, times=times)

    def _refusal(self, number: int, node: ir.Node, masks: Masks) -> str:
        if self.layers and number not in self.layers:
            return "it is not among the layers that were named"
        if node.outputs[0].name in self.keep:
            return "it is kept whole, to keep to the budget"
        if _rows(node) is None:
            return "its queries and keys are of different sequences"
        mask = _mask(node, masks)
        if mask is None:
            return ""
        if not mask.boolean and len(mask.levels) > 1:
            return "its mask hides keys by several numbers"
        reach, _ = reach_of(mask)
        if reach is not None and reach.width <= self.keys + 1:
            return f"it has a window of {reach.width} keys"
        return ""

    def _times(self, node: ir.Node, context: Context) -> tuple[float, float]:
        """Milliseconds of the attention as it was and within the window, as its work tells."""
        query = node.inputs[0]
        shape = context.shapes.get((query.name if query is not None else None) or "")
        length = context.sizes.get("sequence", DEFAULT)
        rows = math.prod(shape) if shape else context.sizes.get("batch", 1) * length
        near = min(length, self.keys + self.keys // 4)
        return 4.0 * rows * length / FLOPS, 4.0 * rows * near / FLOPS


def _mask(node: ir.Node, masks: Masks) -> Mask | None:
    value = optional(node, 3)
    return masks.of(value) if value is not None else None


def _rows(node: ir.Node) -> tuple[ir.Value, ir.Value, int] | None:
    """Queries and new keys, and their axis of positions, where they are of one sequence."""
    query, key = node.inputs[0], node.inputs[1]
    if query is None or key is None or rank(query) not in (3, 4) or rank(key) != rank(query):
        return None
    axis = rank(query) - 2
    same = written_size(query, axis) == written_size(key, axis)
    return (query, key, axis) if same else None


class _Writer:
    """Writes windows, each kind once, before the first attention that has it."""

    def __init__(self, graph: ir.Graph, window: Window) -> None:
        self._graph, self._window = graph, window
        self._constants = Constants()
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def limit(self, node: ir.Node, mask: Mask | None) -> None:
        """Put the window on top of the mask of an attention."""
        attribute = bool(node.attributes.get_int("is_causal", 0))
        causal = attribute or (mask is not None and mask.first(Causal) is not None)
        near = self._near(node, causal=causal, limited=attribute)
        if attribute:
            node.attributes.pop("is_causal")
        if mask is None:
            whole = near
        elif mask.boolean:
            whole = self._node(node, "And", BOOL, mask.value, near)
        else:
            level = min(mask.levels, default=-math.inf)
            low = self._constants.of(self._graph, "hidden", np.array(level, np.float32))
            whole = self._node(node, "Where", mask.value.dtype, near, mask.value, low)
        while len(node.inputs) < 4:
            node.resize_inputs(len(node.inputs) + 1)
        node.replace_input_with(3, whole)

    def _near(self, node: ir.Node, *, causal: bool, limited: bool) -> ir.Value:
        """[queries, keys], whether a key is in the window; `limited`: and not after its query."""
        found, window = _rows(node), self._window
        assert found is not None
        query, _, axis = found
        number = self._number
        past = optional(node, 4)
        length = self._length(node, query, axis)
        before = self._length(node, past, 2) if past is not None else number(0)
        total = self._node(node, "Add", INT64, before, length)
        step, last = number(1), self._constants.of(self._graph, "axis", np.array([1]))
        columns = self._node(node, "Range", INT64, number(0), total, step)
        places = self._node(node, "Range", INT64, before, total, step)
        rows = self._node(node, "Unsqueeze", INT64, places, last)
        distance = self._node(node, "Sub", INT64, columns, rows)
        left, right = (window.keys - 1, 0) if causal else (window.keys // 2,) * 2
        near = self._node(node, "GreaterOrEqual", BOOL, distance, number(-left))
        if not causal:
            ahead = self._node(node, "LessOrEqual", BOOL, distance, number(right))
            near = self._node(node, "And", BOOL, near, ahead)
        if window.global_tokens:
            for position in (columns, rows):
                start = self._node(node, "Less", BOOL, position, number(window.global_tokens))
                near = self._node(node, "Or", BOOL, near, start)
        if limited:
            ahead = self._node(node, "LessOrEqual", BOOL, distance, number(0))
            near = self._node(node, "And", BOOL, near, ahead)
        return near

    def _length(self, node: ir.Node, value: ir.Value, axis: int) -> ir.Value:
        key = ("length", written_size(value, axis))
        if key not in self._made:
            made = ir.node("Shape", [value], {"start": axis, "end": axis + 1})
            flat = ir.node("Squeeze", [made.outputs[0]])
            self._graph.insert_before(node, [made, flat])
            made.outputs[0].type = flat.outputs[0].type = ir.TensorType(INT64)
            flat.outputs[0].shape = ir.Shape(())
            self._made[key] = flat.outputs[0]
        return self._made[key]

    def _number(self, number: int) -> ir.Value:
        return self._constants.of(self._graph, "number", np.array(number, np.int64))

    def _node(
        self, before: ir.Node, operator: str, kind: ir.DataType | None, *inputs: ir.Value
    ) -> ir.Value:
        key = (operator, *inputs)
        if key not in self._made:
            node = ir.node(operator, inputs)
            self._graph.insert_before(before, node)
            node.outputs[0].type = ir.TensorType(kind or ir.DataType.FLOAT)
            self._made[key] = node.outputs[0]
        return self._made[key]
