"""Stages that encode what they give and decode what they take, in operators of the standard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.model import add_initializer
from burnish.optimizer.naming import Names
from burnish.optimizer.partition.stages import StageModel
from burnish.optimizer.partition.wire.kinds import FLOAT16, INT8, LARGEST, LEAST, LEVELS

AXES_AS_INPUT = 18
"""Operator set from which ReduceMax takes its axes as an input."""

LEAST_OPSET = 11
"""The first operator set that has `Round`."""


@dataclass(frozen=True)
class Parcel:
    """How a value is sent.

    Attributes:
        kind: one of `kinds.KINDS`.
        names: of the ports: the value in fewer bits, and its scales where it has any.
        axis: of the features of a token, from the end.
    """

    kind: str
    names: tuple[str, ...]
    axis: int = -1


def encoded(
    stages: Sequence[StageModel], kinds: Mapping[str, str], axes: Mapping[str, int]
) -> tuple[list[StageModel], dict[str, Parcel]]:
    """The stages, changed in place, with ports in fewer bits; and how each value is sent.

    Args:
        stages: in order.
        kinds: by name of a value that some stage gives and later ones take.
        axes: those of the features of a token, by the same names.
    """
    names = [Names(stage.model.graph) for stage in stages]
    taken = {port for stage in stages for port in (*stage.inputs, *stage.outputs)}
    parcels = {}
    for name, kind in kinds.items():
        if kind in (FLOAT16, INT8):
            stem = [f"{name}.{kind}", *([f"{name}.scale"] if kind == INT8 else [])]
            ports = [_free(item, taken, names) for item in stem]
            parcels[name] = Parcel(kind, tuple(ports), axes[name])
    found = []
    for stage in stages:
        graph = stage.model.graph
        for value in [item for item in graph.outputs if item.name in parcels]:
            _encode(graph, value, parcels[value.name or ""])
        for value in [item for item in graph.inputs if item.name in parcels]:
            _decode(graph, value, parcels[value.name or ""])
        inputs, outputs = (_ports(side, parcels) for side in (stage.inputs, stage.outputs))
        found.append(replace(stage, inputs=inputs, outputs=outputs))
    return found, parcels


def _free(stem: str, taken: set[str], names: Sequence[Names]) -> str:
    """A name that no stage has for anything else."""
    name = stem
    while any(item.free(name) != name for item in names) or name in taken:
        name += "_"
    taken.add(name)
    return name


def _ports(names: Sequence[str], parcels: Mapping[str, Parcel]) -> tuple[str, ...]:
    return tuple(
        port for name in names for port in (parcels[name].names if name in parcels else (name,))
    )


def _encode(graph: ir.Graph, value: ir.Value, parcel: Parcel) -> None:
    """Let the graph give the parcel in place of the value."""
    make = _Maker(graph, parcel.names[0])
    wide = make("Cast", [value], to=ir.DataType.FLOAT.value)
    if parcel.kind == FLOAT16:
        limits = make.number(-LARGEST), make.number(LARGEST)
        inside = make("Min", [make("Max", [wide, limits[0]]), limits[1]])
        given = [make("Cast", [inside], to=ir.DataType.FLOAT16.value)]
    else:
        most = make("Max", [make.largest(make("Abs", [wide]), parcel.axis), make.number(LEAST)])
        scale = make("Mul", [most, make.number(1.0 / LEVELS)])
        steps = make("Round", [make("Div", [wide, scale])])
        given = [make("Cast", [steps], to=ir.DataType.INT8.value), scale]
    for port, name in zip(given, parcel.names, strict=True):
        port.name = name
    _type(given, value, parcel)
    index = list(graph.outputs).index(value)
    graph.outputs[index : index + 1] = given
    for node in make.nodes:
        graph.append(node)


def _decode(graph: ir.Graph, value: ir.Value, parcel: Parcel) -> None:
    """Let the graph take the parcel in place of the value, whose readers read what comes of it."""
    kind = value.dtype or ir.DataType.FLOAT
    given = [ir.Value(name=name) for name in parcel.names]
    _type(given, value, parcel)
    make = _Maker(graph, parcel.names[0])
    found = make("Cast", [given[0]], to=ir.DataType.FLOAT.value)
    if parcel.kind == INT8:
        found = make("Mul", [found, given[1]])
    if kind is not ir.DataType.FLOAT:
        found = make("Cast", [found], to=kind.value)
    name, found.type, found.shape = value.name, value.type, value.shape
    ir.convenience.replace_all_uses_with(value, found)
    index = list(graph.inputs).index(value)
    graph.inputs[index : index + 1] = given
    value.name, found.name = None, name
    if len(graph):
        graph.insert_before(graph[0], make.nodes)
    else:
        graph.extend(make.nodes)


def _type(ports: Sequence[ir.Value], value: ir.Value, parcel: Parcel) -> None:
    short = ir.DataType.FLOAT16 if parcel.kind == FLOAT16 else ir.DataType.INT8
    ports[0].type, ports[0].shape = ir.TensorType(short), value.shape
    if parcel.kind == INT8:
        ports[1].type = ir.TensorType(ir.DataType.FLOAT)
        if value.shape is not None:
            sizes = list(value.shape)
            sizes[parcel.axis] = 1
            ports[1].shape = ir.Shape(sizes)


class _Maker:
    """Makes nodes and constants of one graph."""

    def __init__(self, graph: ir.Graph, stem: str) -> None:
        self._graph, self._stem, self._names = graph, stem, Names(graph)
        self.nodes: list[ir.Node] = []

    def __call__(
        self, operator: str, inputs: Sequence[ir.Value], **attributes: int | Sequence[int]
    ) -> ir.Value:
        node = ir.node(operator, inputs, attributes or None)
        node.outputs[0].name = self._names.free(f"{self._stem}.{operator}")
        node.name = node.outputs[0].name
        self.nodes.append(node)
        return node.outputs[0]

    def number(self, value: float) -> ir.Value:
        return self._constant(np.array(value, np.float32))

    def largest(self, value: ir.Value, axis: int) -> ir.Value:
        """Along an axis, which stays."""
        if self._graph.opset_imports.get("", 1) < AXES_AS_INPUT:
            return self("ReduceMax", [value], axes=[axis], keepdims=1)
        return self("ReduceMax", [value, self._constant(np.array([axis], np.int64))], keepdims=1)

    def _constant(self, array: np.ndarray) -> ir.Value:
        name = self._names.free(f"{self._stem}.constant")
        return add_initializer(self._graph, name, ir.tensor(array, name=name))
