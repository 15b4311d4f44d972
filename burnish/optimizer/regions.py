"""What differs between two graphs, along the values that both know by the same name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from burnish.optimizer.admission import walk
from burnish.optimizer.analysis.shapes import element_types
from burnish.optimizer.signature import Signature

INTEGERS = ir.DataType.INT32
"""Of the mask's lengths, which the fused embedding hands on beside its sums."""


@dataclass(frozen=True)
class Region:
    """What a rewrite changed, along values that both graphs know.

    Attributes:
        inputs: values that flow into the later graph's changed nodes.
        outputs: values that the unchanged rest (or the caller) takes from them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def changed_region(before: ir.Model, after: ir.Model) -> Region:
    """Where the graphs differ; no outputs where they do not."""
    tensors = {name: value.const_value for name, value in before.graph.initializers.items()}
    replaced = {
        name
        for name, value in after.graph.initializers.items()
        if not same_tensor(tensors.get(name), value.const_value)
    }
    known = {_fingerprint(node) for node in before.graph}
    functions = _changed_functions(before, after)
    ranks = {
        value.name: len(value.shape)
        for node in before.graph
        for value in node.outputs
        if value.shape is not None
    }
    inputs: dict[str, None] = {}
    outputs: dict[str, None] = {}
    changed = {
        node
        for node in after.graph
        if _fingerprint(node) not in known
        or any(name in replaced for name in _captured_names(node))
        or _calls(node) & functions
        or _set_raised(node, before, after)
        or any(_moved(ranks.get(value.name), value) for value in node.outputs)
    }
    for node in after.graph:
        needs = [value for value in captured(node) if value.name not in after.graph.initializers]
        for value in needs:
            inside = value.producer() in changed
            if node in changed and not inside:
                inputs[value.name or ""] = None
            if node not in changed and inside:
                outputs[value.name or ""] = None
    for value in after.graph.outputs:
        producer = value.producer()
        if (
            producer in changed
            or value.name in replaced
            or (producer is None and _output_moved(value, before))
        ):
            outputs[value.name or ""] = None
    return Region(tuple(inputs), tuple(outputs))


def _changed_functions(before: ir.Model, after: ir.Model) -> set[ir.OperatorIdentifier]:
    """Functions whose body differs, or that call one such at any remove."""
    changed = {
        name
        for name, body in after.functions.items()
        if _body(before.functions.get(name)) != _body(body)
    }
    calls = {
        name: set().union(*(_calls(node) for node in body))
        for name, body in after.functions.items()
    }
    while more := {name for name, called in calls.items() if called & changed} - changed:
        changed |= more
    return changed


def _calls(node: ir.Node) -> set[ir.OperatorIdentifier]:
    """Operators of a node and of the nodes in its subgraphs."""
    return {item.op_identifier() for item in (node, *inner_nodes(node))}


def inner_nodes(node: ir.Node) -> list[ir.Node]:
    """The nodes of a node's subgraphs, at every level."""
    return [
        inner
        for attribute in node.attributes.values()
        for subgraph in _graphs_of(attribute)
        for inner in ir.traversal.RecursiveGraphIterator(subgraph)
    ]


def _body(function: ir.Function | None) -> bytes:
    if function is None:
        return b""
    return bytes(ir.serde.serialize_function(function).SerializeToString(deterministic=True))


def _set_raised(node: ir.Node, before: ir.Model, after: ir.Model) -> bool:
    """Whether the node now is of another version of its operator set."""
    versions = [model.opset_imports.get(node.domain) for model in (before, after)]
    return None not in versions and versions[0] != versions[1]


def _moved(rank: int | None, value: ir.Value) -> bool:
    """Whether a value of the same name now has another rank: what it holds was reshaped."""
    return rank is not None and value.shape is not None and len(value.shape) != rank


def _output_moved(value: ir.Value, before: ir.Model) -> bool:
    """Whether an output that is now a constant or an input was something else."""
    original = next((item for item in before.graph.outputs if item.name == value.name), None)
    return original is not None and original.producer() is not None


def same_tensor(first: ir.TensorProtocol | None, second: ir.TensorProtocol | None) -> bool:
    """Whether two tensors have the same type, shape and bytes."""
    if first is second:
        return True
    if first is None or second is None or first.dtype != second.dtype:
        return False
    return first.nbytes == second.nbytes and (
        tuple(first.shape) == tuple(second.shape) and first.tobytes() == second.tobytes()
    )


def _fingerprint(node: ir.Node) -> tuple[Any, ...]:
    attributes = tuple(
        (name, _untyped(ir.serde.serialize_attribute(value)))
        for name, value in sorted(node.attributes.items())
        if isinstance(value, ir.Attr)
    )
    inputs = tuple(value.name if value is not None else None for value in node.inputs)
    outputs = tuple(value.name for value in node.outputs)
    return (node.domain, node.op_type, node.overload, attributes, inputs, outputs)


def _untyped(attribute: onnx.AttributeProto) -> bytes:
    """An attribute without what its subgraphs say of types and shapes inside: that is no change."""
    for subgraph in walk.subgraphs(attribute):
        for graph, _ in walk.graphs(subgraph):
            del graph.value_info[:]
            for output in graph.output:
                output.ClearField("type")
    return bytes(attribute.SerializeToString(deterministic=True))


def captured(node: ir.Node) -> list[ir.Value]:
    """The values a node reads, those its subgraphs take from outside included."""
    return [value for value in node.inputs if value is not None] + [
        value
        for inner in inner_nodes(node)
        for value in inner.inputs
        if value is not None and value.graph is node.graph
    ]


def _captured_names(node: ir.Node) -> list[str]:
    return [value.name or "" for value in captured(node)]


def _graphs_of(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type is ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type is ir.AttributeType.GRAPHS else ()


def identical(before: ir.Model, after: ir.Model) -> bool:
    """Whether nothing at all differs: nodes, order, initializers, ports."""
    first = [_fingerprint(node) for node in before.graph]
    second = [_fingerprint(node) for node in after.graph]
    return (
        first == second
        and Signature.of(before) == Signature.of(after)
        and before.opset_imports == after.opset_imports
        and {name: _body(body) for name, body in before.functions.items()}
        == {name: _body(body) for name, body in after.functions.items()}
        and list(before.graph.initializers) == list(after.graph.initializers)
        and all(
            same_tensor(value.const_value, after.graph.initializers[name].const_value)
            for name, value in before.graph.initializers.items()
        )
    )


def cut(model: ir.Model, inputs: Iterable[str], outputs: Iterable[str]) -> ir.Model:
    """The part of the model between values, as a model of its own with the same weights."""
    names = set(outputs)
    graph = ir.convenience.extract(
        model.graph, [name for name in inputs if name not in names], sorted(names)
    )
    if any(value.type is None for value in graph.inputs):
        types = element_types(model)
        indices = {
            output.name
            for node in model.graph
            if node.op_type == "EmbedLayerNormalization"
            for output in node.outputs[1:2]
        }
        for value in graph.inputs:
            # What inference does not know comes out of a fused operator, and those give floats.
            fused = INTEGERS if value.name in indices else ir.DataType.FLOAT
            known = types.get(value.name or "", fused)
            value.type = value.type or ir.TensorType(known)
    functions = [function.clone() for function in model.functions.values()]
    return ir.Model(graph, ir_version=model.ir_version, functions=functions)
