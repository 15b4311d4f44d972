"""Moves as a small model of the same sizes, as they are and composed, for timing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.movement import Move, Moves, Slabs, identity
from burnish.optimizer.analysis.movement.moves import VIEWS
from burnish.optimizer.analysis.movement.places import Places
from burnish.optimizer.analysis.shapes.concrete import Axes
from burnish.optimizer.constants import Constants
from burnish.optimizer.forms import AS_IT_IS
from burnish.passes.restructure.moves.writer import Writer

OPSET = 17


@dataclass(frozen=True)
class Change:
    """A move and what it becomes.

    Attributes:
        sink: the value that is made.
        move: how, so far.
        kept: whether it stays, and something is moved behind it.
        places: of elements, from now on.
        inner, outer: of what is moved from now on, and of the result.
    """

    sink: ir.Value
    move: Move
    kept: bool
    places: Places
    inner: Slabs
    outer: Slabs

    @property
    def moves(self) -> bool:
        """Whether anything is moved from now on."""
        return self.kept or not identity(self.places, self.inner.count)


@dataclass(frozen=True)
class Sample:
    """Moves that are changed together.

    Attributes:
        changes: each of one value.
        axes: sizes of the sources, by name.
    """

    changes: Sequence[Change]
    axes: dict[str, Axes]

    @property
    def key(self) -> str:
        """All that the time depends on."""
        digest, words = hashlib.sha256(), []
        for change in self.changes:
            move = change.move
            digest.update(move.places.tobytes() + change.places.tobytes())
            kinds = sorted(node.op_type for node in move.nodes) + ["more"] * change.kept
            axes = "x".join(map(str, self.axes[move.source.name or ""]))
            words.append(f"{axes} by {'+'.join(kinds)}{'' if change.moves else ' gone'}")
        text = ", ".join(f"{words.count(word)} of {word}" for word in dict.fromkeys(words))
        return f"moves {text} {digest.hexdigest()[:12]}"

    def build(self, moves: Moves, form: str) -> onnx.ModelProto:
        """The model: all sources are inputs, and what is still moved are outputs."""
        graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="sample")
        made: dict[ir.Value, ir.Value] = {}
        for change in self.changes:
            source = change.move.source
            if source not in made:
                axes = self.axes[source.name or ""]
                made[source] = ir.val(f"input{len(made)}", ir.DataType.FLOAT, axes)
                graph.inputs.append(made[source])
        writer, copier = Writer(graph), _Copier(graph, moves, made)
        for change in self.changes:
            if form == AS_IT_IS and change.move.nodes:
                result = copier.value(change.sink)
            elif form != AS_IT_IS and change.moves:
                source = copier.value(change.sink) if change.kept else made[change.move.source]
                # Inputs of the sample have the sizes that the sources had.
                inner = change.inner if change.kept else change.move.inner
                nodes = writer.move(source, inner, change.places, change.outer, form)
                graph.extend(nodes)
                result = nodes[-1].outputs[0]
            else:
                continue
            slabs = change.move.outer if form == AS_IT_IS else change.outer
            result.type = ir.TensorType(ir.DataType.FLOAT)
            result.shape = ir.Shape([None] * len(slabs.shape))
            result.name = f"output{len(graph.outputs)}"
            graph.outputs.append(result)
        for index, node in enumerate(graph):
            for place, output in enumerate(node.outputs):
                output.name = output.name or f"value{index}_{place}"
        return ir.to_proto(ir.Model(graph, ir_version=10))


class _Copier:
    """Copies the nodes that move into a sample, with all they need to know as constants."""

    def __init__(self, graph: ir.Graph, moves: Moves, made: dict[ir.Value, ir.Value]) -> None:
        self._graph, self._moves, self._made = graph, moves, made
        self._constants = Constants()

    def value(self, value: ir.Value) -> ir.Value:
        """The copy of a value."""
        if value not in self._made:
            node = value.producer()
            assert node is not None
            copy = self._node(node)
            self._graph.append(copy)
            self._made.update(zip(node.outputs, copy.outputs, strict=True))
        return self._made[value]

    def _node(self, node: ir.Node) -> ir.Node:
        data = node.inputs[0]
        assert data is not None
        source = self.value(data)
        if node.op_type in VIEWS:
            slabs = self._moves.slabs(node.outputs[0])
            assert slabs is not None
            return ir.node("Reshape", [source, self._integers(slabs.sizes())])
        if node.op_type == "Transpose":
            order = node.attributes.get_ints("perm", None)
            return ir.node("Transpose", [source], {"perm": order} if order else {})
        if node.op_type == "Slice":
            bounds = [self._known(node, index) for index in range(1, len(node.inputs))]
            return ir.node("Slice", [source, *bounds])
        axis = {"axis": node.attributes.get_int("axis", 0)}
        if node.op_type == "Gather":
            return ir.node("Gather", [source, self._known(node, 1)], axis)
        if node.op_type == "Split":
            made = [self._moves.slabs(item) for item in node.outputs]
            sizes = self._integers([item.shape[axis["axis"]] for item in made if item is not None])
            return ir.node("Split", [source, sizes], axis, num_outputs=len(made))
        parts = [self.value(item) for item in node.inputs if item is not None]
        return ir.node("Concat", parts, axis)

    def _known(self, node: ir.Node, index: int) -> ir.Value | None:
        value = optional(node, index)
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return self._constants.of(self._graph, "indices", tensor.numpy())
        return self._integers(self._moves.numbers(value))

    def _integers(self, numbers: Sequence[int]) -> ir.Value:
        return self._constants.of(self._graph, "sizes", np.array(numbers, np.int64))
