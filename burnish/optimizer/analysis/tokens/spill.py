"""How far changed padded rows reach: they must not change what stands at real tokens.

Where token-wise layers run on real tokens only, padded rows of what they give hold anything. Such
rows are followed through the rest of the graph, axis by axis, until a softmax gives them no weight,
the mask puts a constant in their place, a real token is selected, or the caller takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.tokens.layout import Axis, Layout
from burnish.optimizer.analysis.tokens.operators import (
    CHOICES,
    ELEMENTWISE,
    NORMS,
    REDUCTIONS,
    SOFTMAXES,
    VIEWS,
    axes_of,
)
from burnish.optimizer.analysis.tokens.padded import Facts, Padded, hides
from burnish.optimizer.analysis.tokens.region import Region, leading
from burnish.optimizer.analysis.tokens.selections import Leak, cut, positions
from burnish.optimizer.regions import captured

ZERO = Padded(0.0, True)

Axes = frozenset[int]
NONE: Axes = frozenset()


@dataclass
class Spill:
    """Where padded rows hold something else.

    Attributes:
        axes: by value, the axes over positions along which they do; only values that have any.
        selected: positions (from the end where negative) that are taken from every sequence, which
            have to be computed as if they were real.
    """

    axes: dict[ir.Value, Axes] = field(default_factory=dict)
    selected: set[int] = field(default_factory=set)


def follow(model: ir.Model, layout: Layout, facts: Facts, region: Region) -> Spill:
    """Follow padded rows from the region's results on.

    Raises:
        Leak: where they would change something else.
    """
    spill = Spill()
    follower = _Follower(layout, facts, spill)
    for node in model.graph:
        if node in region:
            follower.packed(node)
        else:
            follower.other(node)
    return spill


class _Follower:
    def __init__(self, layout: Layout, facts: Facts, spill: Spill) -> None:
        self._layout = layout
        self._facts = facts
        self._spill = spill

    def packed(self, node: ir.Node) -> None:
        """A node of the region, which reads nothing but real tokens' rows."""
        for value in node.inputs:
            dims = self._layout.dims(value)
            own = {leading(dims) - 1} if leading(dims) else set()
            if self._of(value) - own:
                raise Leak(node, "it reads what mixes padded tokens")
        for output in node.outputs:
            self._spill.axes[output] = frozenset({leading(self._layout.dims(output)) - 1})

    def other(self, node: ir.Node) -> None:
        """Any other node."""
        if not any(self._of(value) for value in captured(node)):
            return
        if node.op_type in ("Shape", "Size") and node.domain == "":
            return
        transfer = TRANSFERS.get(node.op_type) if node.domain == "" else None
        if transfer is None or any(value not in node.inputs for value in captured(node)):
            raise Leak(node, f"padded rows reach {node.op_type}, which may mix tokens")
        for output, axes in zip(node.outputs, transfer(self, node), strict=False):
            if axes:
                self._spill.axes[output] = axes

    def _of(self, value: ir.Value | None) -> Axes:
        return self._spill.axes.get(value, NONE) if value is not None else NONE

    def _rank(self, node: ir.Node, value: ir.Value | None) -> int:
        dims = self._layout.dims(value)
        if dims is None:
            raise Leak(node, "the shape of an operand is not known")
        return len(dims)

    def elementwise(self, node: ir.Node) -> list[Axes]:
        result = node.outputs[0]
        rank = self._rank(node, result)
        facts = self._facts.get(result, {})
        axes: set[int] = set()
        for value in node.inputs:
            shift = rank - self._rank(node, value) if self._of(value) else 0
            for axis in self._of(value):
                fact = facts.get(axis + shift)
                known = fact is not None and fact.exact
                if not (known and self._same_sequences(value, result, axis, shift)):
                    axes.add(axis + shift)
        return [frozenset(axes)]

    def _same_sequences(
        self, value: ir.Value | None, other: ir.Value, axis: int, shift: int
    ) -> bool:
        """Whether two values' sequences are along the same axis, where `other` is broadcast."""
        dims, mine = self._layout.dims(value) or (), self._layout.batch(value) if value else None
        return dims[axis] is Axis.TOKENS or (
            mine is not None and mine + shift == self._layout.batch(other)
        )

    def view(self, node: ir.Node) -> list[Axes]:
        if any(self._of(value) for value in node.inputs[1:]):
            raise Leak(node, "its shape depends on padded rows")
        axes = {self._layout.carried(node, axis) for axis in self._of(node.inputs[0])}
        if None in axes:
            raise Leak(node, "it does not keep the tokens' axis")
        return [frozenset(axis for axis in axes if axis is not None)]

    def along(self, node: ir.Node) -> list[Axes]:
        """Operators that mix along some axes, and may drop them."""
        rank = self._rank(node, node.inputs[0])
        mixed, axes = axes_of(node, self._layout, rank), set(self._of(node.inputs[0]))
        for value in node.inputs[1:]:
            if self._of(value):
                if node.op_type != "Concat":
                    raise Leak(node, "an operand besides the first holds padded rows")
                axes |= self._of(value)
        if mixed is None:
            raise Leak(node, "the axes that it mixes are not known")
        if node.op_type == "Softmax":
            facts = self._facts.get(node.inputs[0], {}) if node.inputs[0] is not None else {}
            axes = {axis for axis in axes if axis not in mixed or not hides(facts.get(axis))}
        source = node.inputs[0]
        if axes and source is not None and self._layout.batch(source) in mixed:
            raise Leak(node, f"{node.op_type} mixes sequences")
        if axes & set(mixed):
            reasons = {"Softmax": "no mask hides padded keys from it"}
            raise Leak(node, reasons.get(node.op_type, f"{node.op_type} mixes padded tokens"))
        drops = node.op_type in (*REDUCTIONS, *CHOICES)
        if drops and not node.attributes.get_int("keepdims", 1):
            axes = {axis - sum(item < axis for item in mixed) for axis in axes}
        return [frozenset(axes)] * len(node.outputs)

    def product(self, node: ir.Node) -> list[Axes]:
        first, second = node.inputs[0], node.inputs[1]
        assert first is not None and second is not None
        ranks = self._rank(node, first), self._rank(node, second)
        rank = max(ranks)
        if min(ranks) < 2:
            raise Leak(node, "a vector holds padded rows")
        axes: set[int] = set()
        sides = ((first, ranks[0] - 1, second, ranks[1] - 2), (second, ranks[1] - 2, first, -1))
        for value, inner, other, opposite in sides:
            opposite %= self._rank(node, other)
            for axis in self._of(value):
                if (self._layout.dims(value) or ())[inner] is Axis.BATCH:
                    raise Leak(node, "it sums over sequences")
                if axis != inner:
                    axes.add(axis + rank - self._rank(node, value))
                    continue
                weight = self._facts.get(other, {}).get(opposite)
                if weight != ZERO or opposite in self._of(other) or not self._beside(value, other):
                    raise Leak(node, "it sums over padded tokens")
        return [frozenset(axes)]

    def _beside(self, value: ir.Value, other: ir.Value) -> bool:
        """Whether the sequences of two operands of a product go together, merged with heads or not.

        A view keeps sequences outermost where it merges them with others (see `Layout.carried`).
        """
        first, second = self._layout.shapes(value) or [], self._layout.shapes(other) or []
        if len(first) != len(second):
            return False
        batch = self._layout.batch(value)
        if batch is not None or self._layout.batch(other) is not None:
            return batch == self._layout.batch(other)
        return len(first) > 2 and first[0] == second[0]

    def attention(self, node: ir.Node) -> list[Axes]:
        query, key, value, mask = (*node.inputs[:4], *[None] * (4 - len(node.inputs)))[:4]
        place = 2 if self._rank(node, query) == 4 else 1
        if any(self._of(item) for item in node.inputs[3:]):
            raise Leak(node, "its mask or cache depends on padded rows")
        if any(self._of(item) - {place} for item in (query, key, value)):
            raise Leak(node, "it reads what mixes padded tokens")
        if self._of(key) or self._of(value):
            aligned = mask is not None and self._rank(node, mask) == 4
            aligned = aligned and mask is not None and self._layout.batch(mask) == 0
            fact = self._facts.get(mask, {}).get(3) if aligned and mask is not None else None
            boolean = mask is not None and self._layout.dtype(mask) is ir.DataType.BOOL
            if not (fact == ZERO if boolean else hides(fact)):
                raise Leak(node, "no mask hides padded keys from it")
        if len(node.outputs) > 3 and node.outputs[3].uses():
            raise Leak(node, "its scores are used")
        states = [frozenset({2}) if self._of(item) else NONE for item in (key, value)]
        return [self._of(query), *states]

    def gather(self, node: ir.Node) -> list[Axes]:
        data, indices = node.inputs[0], node.inputs[1]
        rank = self._rank(node, data)
        axis = node.attributes.get_int("axis", 0) % rank
        if self._of(indices):
            raise Leak(node, "padded rows choose what it takes")
        self._one_length(node, data, axis)
        grown = self._rank(node, indices) - 1
        axes = {item if item < axis else item + grown for item in self._of(data) if item != axis}
        if axis in self._of(data):
            self._spill.selected |= positions(node, self._layout, self._layout.elements(indices))
        return [frozenset(axes)]

    def elements(self, node: ir.Node) -> list[Axes]:
        """One element for each index, all axes but one in common."""
        axis = node.attributes.get_int("axis", 0) % self._rank(node, node.inputs[0])
        if self._of(node.inputs[1]) or axis in self._of(node.inputs[0]):
            raise Leak(node, "it takes tokens at computed places")
        self._one_length(node, node.inputs[0], axis)
        return [self._of(node.inputs[0])]

    def slice(self, node: ir.Node) -> list[Axes]:
        rank, axes = self._rank(node, node.inputs[0]), set(self._of(node.inputs[0]))
        along = axes_of(node, self._layout, rank)
        steps = self._layout.constant(node.inputs[4]) if len(node.inputs) > 4 else np.ones(rank)
        if along is None or steps is None or any(self._of(value) for value in node.inputs[1:]):
            raise Leak(node, "where it cuts is not known")
        assert node.inputs[0] is not None
        before = self._layout.shapes(node.inputs[0]) or []
        after = self._layout.shapes(node.outputs[0]) or []
        for axis, step in zip(along, steps.reshape(-1), strict=False):
            if step == 1 and before[axis : axis + 1] == after[axis : axis + 1]:
                continue
            self._one_length(node, node.inputs[0], axis)
            if axis in axes:
                places = cut(node, self._layout, along.index(axis))
                self._spill.selected |= positions(node, self._layout, places)
                axes.discard(axis)
        return [frozenset(axes)]

    def _one_length(self, node: ir.Node, value: ir.Value | None, axis: int) -> None:
        """Raise where the axis runs over sequences, or over those and positions together."""
        dims = self._layout.dims(value) or ()
        if not isinstance(dims[axis], int) and dims[axis] is not Axis.SEQUENCE:
            raise Leak(node, "it takes a part of the sequences")

    def first_only(self, node: ir.Node) -> list[Axes]:
        """Operators that keep the axes of their first operand."""
        if any(self._of(value) for value in node.inputs[1:]):
            raise Leak(node, "an operand besides the first holds padded rows")
        return [self._of(node.inputs[0])]


Transfer = Callable[[_Follower, ir.Node], list[Axes]]

TRANSFERS: Mapping[str, Transfer] = {
    **dict.fromkeys((*ELEMENTWISE, "Expand"), _Follower.elementwise),
    **dict.fromkeys((*VIEWS, "Transpose"), _Follower.view),
    **dict.fromkeys(
        (*NORMS, *SOFTMAXES, *REDUCTIONS, *CHOICES, "Split", "Concat"), _Follower.along
    ),
    "MatMul": _Follower.product,
    "Attention": _Follower.attention,
    "Gather": _Follower.gather,
    "GatherElements": _Follower.elements,
    "Slice": _Follower.slice,
    "RotaryEmbedding": _Follower.first_only,
}
"""What becomes of padded rows, by operator."""
