"""Rotary embeddings, found by what each feature of a value becomes.

Going forward from a value `x` with features along its last axis, every value that moves, negates,
scales by a table or adds these features is written as a sum of terms `± x[i] * table[c]` for each
of its elements. One where each feature meets its partner as in a rotation is a rotary embedding,
however it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.rotary.arrangement import arrangement, trailing
from burnish.optimizer.analysis.rotary.columns import Columns, varying
from burnish.optimizer.analysis.rotary.pairs import (
    Form,
    Rotation,
    Term,
    negated,
    rotation_of,
)
from burnish.optimizer.analysis.sizes import Sizes

WIDEST = 512
"""Features of the widest head."""


@dataclass
class Finder:
    """Finds rotations in one model.

    Attributes:
        sizes: of the model; kept up to date by whoever rewrites.
        order: place of each node.
    """

    sizes: Sizes
    order: Mapping[ir.Node, int]
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        self.columns = Columns(self.sizes)

    def find(self, source: ir.Value) -> Rotation | None:
        """The rotation of all of `source`, if there is one; the outermost of several."""
        shape, width = self.sizes.shape(source), trailing(source, 1, self.sizes)
        if shape is None or width is None or not 2 <= width[0] <= WIDEST or len(shape) < 2:
            return None
        first = _takes_features_apart(source, len(shape), self.sizes)
        if first is None:
            return None
        found = None
        for value, form in self._forms(source, len(shape) - 1, width[0], first.graph):
            if len(form) == width[0] and trailing(value, 1, self.sizes) == width:
                found = rotation_of(source, value, form) or found
        return found

    def _forms(
        self, source: ir.Value, lead: int, width: int, graph: object
    ) -> Iterator[tuple[ir.Value, Form]]:
        """The values of a graph that are made of the features of `source`, in order."""
        forms: dict[ir.Value, Form] = {source: tuple((Term(i, 1),) for i in range(width))}
        waiting = {use.node for use in source.uses() if self._is_near(use.node, graph)}
        while waiting:
            node = min(waiting, key=lambda item: self.order[item])
            waiting.remove(node)
            for value, form in self._apply(node, forms, lead):
                if value in forms:
                    continue
                forms[value] = form
                near = {use.node for use in value.uses() if self._is_near(use.node, graph)}
                waiting |= near
                yield value, form

    def _is_near(self, node: ir.Node, graph: object) -> bool:
        return node in self.order and node.graph is graph

    def _apply(
        self, node: ir.Node, forms: Mapping[ir.Value, Form], lead: int
    ) -> list[tuple[ir.Value, Form]]:
        if node.domain != "" or node.outputs[0] in forms:
            return []
        shape = self.sizes.shape(node.outputs[0])
        inputs = [value for value in node.inputs if value is not None]
        if shape is None or len(shape) < lead:
            return []
        tail = len(shape) - lead
        if node.op_type in ("Add", "Sub", "Mul", "Neg"):
            form = self._computed(node, inputs, forms, tail)
            return [(node.outputs[0], form)] if form is not None else []
        if node.op_type == "Concat":
            form = self._joined(node, inputs, forms, lead, tail)
            return [(node.outputs[0], form)] if form is not None else []
        if not inputs or inputs[0] not in forms:
            return []
        result = []
        for value in node.outputs:
            found = arrangement(node, value, tail, self.sizes)
            rank = len(self.sizes.shape(inputs[0]) or ())
            if found is not None and not found.leads and rank - found.tail == lead:
                entries = forms[inputs[0]]
                result.append((value, tuple(entries[i] for i in found.source.reshape(-1))))
        return result

    def _computed(
        self, node: ir.Node, inputs: list[ir.Value], forms: Mapping[ir.Value, Form], tail: int
    ) -> Form | None:
        if node.op_type == "Neg":
            return tuple(map(negated, forms[inputs[0]]))
        shapes = [trailing(value, tail, self.sizes) for value in (*inputs, node.outputs[0])]
        if node.op_type == "Mul":
            first, second = inputs
            if second in forms and first not in forms:
                first, second = second, first
            if second in forms or trailing(first, tail, self.sizes) != shapes[2]:
                return None
            return self._scaled(forms[first], second, tail)
        if any(value not in forms for value in inputs) or len(set(shapes)) > 1:
            return None
        left, right = forms[inputs[0]], forms[inputs[1]]
        if node.op_type == "Sub":
            right = tuple(map(negated, right))
        sums = tuple((*mine, *theirs) for mine, theirs in zip(left, right, strict=True))
        return sums if all(len(entry) <= 2 for entry in sums) else None

    def _scaled(self, form: Form, table: ir.Value, tail: int) -> Form | None:
        """A form times a table along the trailing axes, or times 1 or -1."""
        shape = self.sizes.shape(table)
        mine = min(tail, len(shape or ()))
        columns = self.columns.of(table, mine)
        if shape is None or columns is None or columns.size not in (1, len(form)):
            return None
        signs = _signs(table, columns.size)
        if signs is None and any(term.table is not None for entry in form for term in entry):
            return None
        spread, places, scaled = len(form) // columns.size, varying(shape, tail), []
        for place, entry in enumerate(form):
            column = place // spread
            if signs is not None:
                scaled.append(entry if signs[column] > 0 else negated(entry))
                continue
            number = int(columns.reshape(-1)[column])
            own = 1 if number > 0 else -1
            rest = (number * own, own, places, table, mine, column)
            scaled.append(tuple(Term(term.feature, term.sign * own, *rest) for term in entry))
        return tuple(scaled)

    def _joined(
        self,
        node: ir.Node,
        inputs: list[ir.Value],
        forms: Mapping[ir.Value, Form],
        lead: int,
        tail: int,
    ) -> Form | None:
        """The elements of several forms side by side along a trailing axis."""
        axis = node.attributes.get_int("axis", 0) % (lead + tail) - lead
        shapes = [trailing(value, tail, self.sizes) for value in inputs]
        if axis < 0 or any(value not in forms for value in inputs) or None in shapes:
            return None
        rows = 1
        for size in (shapes[0] or ())[:axis]:
            rows *= size
        parts = [forms[value] for value in inputs]
        widths = [len(part) // rows for part in parts]
        return tuple(
            entry
            for row in range(rows)
            for part, width in zip(parts, widths, strict=True)
            for entry in part[row * width : (row + 1) * width]
        )


def _signs(table: ir.Value, count: int) -> list[float] | None:
    """The elements of a constant where all are 1 or -1."""
    tensor = ir.convenience.get_const_tensor(table)
    if tensor is None or tensor.size != count:
        return None
    numbers = [float(number) for number in tensor.numpy().reshape(-1)]
    return numbers if all(abs(number) == 1 for number in numbers) else None


def _takes_features_apart(source: ir.Value, rank: int, sizes: Sizes) -> ir.Node | None:
    """A reader that takes some of the features, as every rotation has to."""
    for use in source.uses():
        node = use.node
        if use.idx != 0 or node.domain != "":
            continue
        if node.op_type in ("Split", "Gather"):
            if node.attributes.get_int("axis", 0) in (-1, rank - 1):
                return node
        elif node.op_type in ("Slice", "Reshape"):
            shape, mine = sizes.shape(node.outputs[0]), sizes.shape(source)
            if shape is not None and mine is not None and shape[-1] != mine[-1]:
                return node
    return None
