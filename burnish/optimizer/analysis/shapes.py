"""Concrete shapes of every value for given sizes of the symbolic dimensions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.size_arithmetic import compute_sizes
from burnish.optimizer.analysis.stand_ins import stand_in
from burnish.optimizer.model import without_weights
from burnish.optimizer.signature import Port

SUM = re.compile(r"^\s*(\w+)\s*\+\s*(\w+)\s*$")


MOST_ROUNDS = 4
"""Times that shapes are inferred anew with what their first inference told."""


def infer(
    model: ir.Model, sizes: Mapping[str, int], *, bounded: bool = False
) -> dict[str, tuple[int, ...]]:
    """Shapes by value name, for those that ONNX's shape inference can tell.

    Weights take no part except by their shapes. Symbols that `sizes` does not hold stay open.

    Args:
        model: left as it is.
        sizes: by symbolic dimension.
        bounded: let NonZero and Compress give as much as they can, where only the data tells.
    """
    light = without_weights(model)
    for value in light.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            size = resolve(dimension.dim_param, sizes) if dimension.dim_param else None
            if size is not None:
                dimension.dim_value = size
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    del light.graph.value_info[:]
    stand_in(light)
    found = _inferred(light)
    for _ in range(MOST_ROUNDS):
        if all(name in found for node in light.graph.node for name in node.output if name):
            break
        known = compute_sizes(light, found)
        if not (known or (bounded and _bound(light, found))):
            break
        found |= _inferred(light)
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


def element_types(model: ir.Model) -> dict[str, ir.DataType]:
    """Element types by value name, as far as ONNX's shape inference knows the operators."""
    light = without_weights(model)
    try:
        light = onnx.shape_inference.infer_shapes(light)
    except Exception:  # as above
        return {}
    return {
        value.name: ir.DataType(value.type.tensor_type.elem_type)
        for value in (*light.graph.input, *light.graph.value_info, *light.graph.output)
        if value.type.HasField("tensor_type")
    }


def resolve(symbol: str, sizes: Mapping[str, int]) -> int | None:
    """The size of a symbolic dimension: a known name, a number, or a sum of two of those."""
    if symbol in sizes:
        return sizes[symbol]
    if symbol.isdecimal():
        return int(symbol)
    if match := SUM.match(symbol):
        parts = [resolve(part, sizes) for part in match.groups()]
        if parts[0] is not None and parts[1] is not None:
            return parts[0] + parts[1]
    return None


def symbols(ports: tuple[Port, ...]) -> list[str]:
    """The symbolic dimensions of some ports, in order of appearance, without sums."""
    found: dict[str, None] = {}
    for port in ports:
        for size in port.shape or ():
            if isinstance(size, str) and not SUM.match(size):
                found[size] = None
            elif isinstance(size, str):
                found.update(
                    dict.fromkeys(
                        part
                        for part in SUM.match(size).groups()  # type: ignore[union-attr]
                        if not part.isdecimal()
                    )
                )
    return list(found)
