"""ONNX's shape inference, helped over what it does not know, on a message without weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx

from burnish.optimizer.analysis.shapes.arithmetic import compute_sizes
from burnish.optimizer.analysis.shapes.stand_ins import stand_in

MOST_ROUNDS = 4
"""Times that shapes are inferred anew with what their first inference told."""


def inferred_shapes(light: onnx.ModelProto, *, bounded: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by value name, of the graph and its subgraphs; the message is changed.

    Args:
        light: a model whose inputs say their sizes.
        bounded: let NonZero and Compress give as much as they can, where only the data tells.
    """
    found: dict[str, tuple[int, ...]] = {}
    try:
        stand_in(light)
        found = _inferred(light)
        for _ in range(MOST_ROUNDS):
            if all(name in found for node in light.graph.node for name in node.output if name):
                break
            known = compute_sizes(light, found)
            if not (known or (bounded and _bound(light, found))):
                break
            found |= _inferred(light)
    except (ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
        pass  # nodes that are not legal, which others complain of
    return found


def _inferred(light: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # the C++ library raises types of its own; unknown shapes are legal
        return {}
    found = {}
    for value in _values(light.graph):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
            if all(size >= 0 for size in dims):
                found[value.name] = tuple(dims)
    return found


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """The values of a graph and its subgraphs."""
    yield from (*graph.input, *graph.value_info, *graph.output)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _values(attribute.g)


def _bound(light: onnx.ModelProto, found: Mapping[str, tuple[int, ...]]) -> bool:
    """Put inputs of the largest shape in place of nodes whose result only the data tells."""
    kept, bounds = [], []
    for node in light.graph.node:
        given, known = found.get(node.input[0]) if node.input else None, node.output[0] in found
        shape: tuple[int, ...] | None = None
        if given is not None and not known and node.op_type == "NonZero":
            shape = (len(given), math.prod(given))
        elif given is not None and not known and node.op_type == "Compress":
            axis = next((item.i for item in node.attribute if item.name == "axis"), None)
            shape = given if axis is not None else (math.prod(given),)
        if shape is None:
            kept.append(node)
            continue
        kind = onnx.TensorProto.INT64 if node.op_type == "NonZero" else onnx.TensorProto.FLOAT
        bounds.append(onnx.helper.make_tensor_value_info(node.output[0], kind, shape))
    del light.graph.node[:]
    light.graph.node.extend(kept)
    light.graph.input.extend(bounds)
    return bool(bounds)
