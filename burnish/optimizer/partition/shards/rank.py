"""The model of one rank: its parts of weights, and operators that are told of parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer, without_weights
from burnish.optimizer.partition.shards.flow import Flow, Goal
from burnish.optimizer.partition.shards.layout import WHOLE, Layout, positions
from burnish.optimizer.partition.shards.local import Local
from burnish.optimizer.partition.shards.rules import rule_of
from burnish.optimizer.partition.shards.rules.products import summed_locally
from burnish.optimizer.partition.shards.rules.rows import rows_locally
from burnish.optimizer.partition.shards.site import Facts


def rank_model(
    model: ir.Model,
    facts: Facts,
    goals: Collection[Goal],
    flow: Flow,
    once: Collection[ir.Node],
    rank: int,
) -> ir.Model:
    """A copy of a model with what one rank has.

    Args:
        model: constants are initializers; it stays as it is.
        facts: of it.
        goals: what is split.
        flow: what follows.
        once: nodes that add a constant to a part of a sum, which the first rank alone may do.
        rank: from 0.
    """
    copy = model.clone()
    writer = _Writer(model, copy, facts, flow, rank)
    known = {goal.node: goal for goal in goals}
    for before, node in writer.pairs:
        if before in flow.wants:
            writer.cut(before, node, known.get(before))
        elif before.op_type == "Shape" and not before.domain and before.inputs:
            writer.measure(before, node)
        if before in once and rank:
            writer.silence(node)
    writer.describe()
    _say_types(copy)
    return copy


def _say_types(model: ir.Model) -> None:
    """Let what was added, and may go from part to part, say its type."""
    untyped = [value for node in model.graph for value in node.outputs if value.type is None]
    if not untyped:
        return
    light = onnx.shape_inference.infer_shapes(without_weights(model))
    found = {value.name: value.type.tensor_type.elem_type for value in light.graph.value_info}
    for value in untyped:
        if kind := found.get(value.name or "", 0):
            value.type = ir.TensorType(ir.DataType(kind))


class _Writer:
    """Changes a copy of a model."""

    def __init__(
        self, model: ir.Model, copy: ir.Model, facts: Facts, flow: Flow, rank: int
    ) -> None:
        self._copy, self._facts, self._flow, self._rank = copy, facts, flow, rank
        self.pairs = list(zip(model.graph, copy.graph, strict=True))
        self._same: dict[ir.Value, ir.Value] = dict(_values(model, copy, self.pairs))
        self._constants = Constants()
        self._taken: dict[tuple[ir.Value, Layout], ir.Value] = {}

    def cut(self, before: ir.Node, node: ir.Node, goal: Goal | None) -> None:
        """Give a node its parts."""
        wants = self._flow.wants[before]
        for place, (value, layout) in enumerate(zip(before.inputs, wants, strict=True)):
            has = self._flow.gives.get(value, WHOLE) if value is not None else WHOLE
            if (
                value is None
                or (layout == has and value.const_value is None)
                or (not layout and value.const_value is not None)
            ):
                continue
            key = value, layout
            if key not in self._taken:
                self._taken[key] = (
                    self._stored(value, layout)
                    if value.const_value is not None
                    else self._take(value, has, layout, node)
                )
            node.replace_input_with(place, self._taken[key])
        gives = [self._flow.gives.get(value, WHOLE) for value in before.outputs]
        if goal is not None and goal.gathers:
            gives[0] = goal.gives
            _forget(node.outputs[0], goal.gives)
        local = Local(node, before, self._facts, self._rank, wants, gives, self._constants)
        if goal is not None and goal.adds:
            (rows_locally if before.op_type == "Gather" else summed_locally)(local)
            return
        rule = rule_of(before.domain, before.op_type)
        assert rule is not None
        rule[1](local)

    def _stored(self, value: ir.Value, layout: Layout) -> ir.Value:
        """A part of a weight, computed when it is written."""
        tensor = value.const_value
        assert tensor is not None
        shape = layout.local(self._rank, tensor.shape.numpy())
        places = [(axis, parts.indices(self._rank)) for axis, parts in layout.axes]

        def compute() -> ir.TensorProtocol:
            array: Array = tensor.numpy()
            for axis, indices in places:
                array = array.take(indices, axis)
            return ir.tensor(np.ascontiguousarray(array), dtype=tensor.dtype)

        part = ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(shape), cache=False)
        return add_initializer(self._copy.graph, value.name or "weight", part)

    def _take(self, value: ir.Value, has: Layout, wants: Layout, node: ir.Node) -> ir.Value:
        """What is wanted of what is there."""
        taken, shape = self._same[value], self._facts.shape(value)
        assert shape is not None
        for axis in sorted({axis for axis, _ in (*has.axes, *wants.axes)}):
            places = positions(has, wants, axis, self._rank, shape[axis])
            if places is None:
                continue
            index = self._constants.of(self._copy.graph, "rank.part", places.astype(np.int64))
            made = ir.node("Gather", [taken, index], {"axis": axis})
            made.outputs[0].type, made.outputs[0].shape = value.type, ir.Shape([None] * len(shape))
            self._copy.graph.insert_before(node, made)  # its first reader
            taken = made.outputs[0]
        return taken

    def measure(self, before: ir.Node, node: ir.Node) -> None:
        """Let sizes be those of the whole value: others are told parts where they need them."""
        value = before.inputs[0]
        layout = self._flow.gives.get(value, WHOLE) if value is not None else WHOLE
        shape = self._facts.shape(value)
        if not layout or shape is None:
            return
        parts = dict(layout.axes)
        rank = len(shape)
        of = [p.size if (p := parts.get(axis)) else 1 for axis in range(rank)]
        have = [p.count(self._rank) if (p := parts.get(axis)) else 1 for axis in range(rank)]
        start = before.attributes.get_int("start", 0)
        end = before.attributes.get_int("end", rank)
        old = node.outputs[0]
        users = list(old.uses())
        local = Local(node, before, self._facts, self._rank, (), (), self._constants)
        whole = local.behind("Mul", [old, local.number(np.array(of[start:end], np.int64), "of")])
        part = local.number(np.array(have[start:end], np.int64), "part")
        whole = local.behind("Div", [whole, part])
        for user, place in users:
            user.replace_input_with(place, whole)

    def silence(self, node: ir.Node) -> None:
        """Let a node add zeros in place of a constant."""
        for place, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None:
                zeros = np.zeros(value.const_value.shape.numpy(), value.const_value.dtype.numpy())
                made = self._constants.of(self._copy.graph, "rank.zeros", zeros)
                node.replace_input_with(place, made)

    def describe(self) -> None:
        """Say the shapes of parts."""
        for value, layout in self._flow.gives.items():
            mine, parts = self._same[value], dict(layout.axes)
            if mine.shape is None:
                continue
            mine.shape = ir.Shape(
                [
                    None
                    if (axis in parts and not isinstance(size, int))
                    else parts[axis].count(self._rank)
                    if axis in parts
                    else size
                    for axis, size in enumerate(mine.shape)
                ]
            )


def _forget(value: ir.Value, layout: Layout) -> None:
    """Leave open the sizes of a value that has others before ranks meet than behind."""
    if value.shape is not None:
        axes = {axis for axis, _ in layout.axes}
        sizes = enumerate(value.shape)
        value.shape = ir.Shape([None if axis in axes else size for axis, size in sizes])


def _values(
    model: ir.Model, copy: ir.Model, pairs: list[tuple[ir.Node, ir.Node]]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Values of a model and of its copy."""
    yield from zip(model.graph.inputs, copy.graph.inputs, strict=True)
    for name, value in model.graph.initializers.items():
        yield value, copy.graph.initializers[name]
    for before, node in pairs:
        yield from zip(before.outputs, node.outputs, strict=True)
