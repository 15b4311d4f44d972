"""Concrete shapes of every value for given sizes of the symbolic dimensions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import onnx
import onnx_ir as ir

from burnish.optimizer.admission.walk import graphs
from burnish.optimizer.analysis.shapes.inference import inferred_shapes
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.model import without_weights
from burnish.optimizer.signature import Port

SUM = re.compile(r"^\s*(\w+)\s*\+\s*(\w+)\s*$")


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
    return inferred_shapes(light, bounded=bounded)


def annotate(model: ir.Model) -> None:
    """Let values say their types, and their shapes in terms of the sizes of the inputs.

    An open size becomes a symbol of its own, so that equal symbols are equal sizes. What outputs
    of the graph say of themselves stays.
    """
    light = without_weights(model)
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # as above
        return
    inferred = {value.name: value.type.tensor_type for value in light.graph.value_info}
    for node in model.graph:
        for value in node.outputs:
            if (kind := inferred.get(value.name or "")) is not None:
                _fill(value, kind)
    sizes = Sizes.of(model)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            shape = sizes.shape(value)
            if shape is not None and (value.shape is None or not value.is_graph_output()):
                value.shape = ir.Shape([sizes.written(size) for size in shape])


def _fill(value: ir.Value, kind: onnx.TypeProto.Tensor) -> None:
    if value.type is None and kind.elem_type:
        value.type = ir.TensorType(ir.DataType(kind.elem_type))
    if not kind.HasField("shape"):
        return
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
    if value.shape is None:
        value.shape = ir.Shape(dims)
    elif len(value.shape) == len(dims) and not value.is_graph_output():
        pairs = zip(value.shape, dims, strict=True)
        value.shape = ir.Shape(
            [
                new if isinstance(new, int) or not (isinstance(old, int) or old.value) else old
                for old, new in pairs
            ]
        )


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


def describe(model: ir.Model, needed: Iterable[ir.Value | None]) -> None:
    """Give the values of a model the types and shapes that ONNX's shape inference finds.

    Nothing is done where all that is needed is known. Values that know theirs keep them, and so
    do names that several subgraphs use.
    """
    if all(value is None or _is_described(value) for value in needed):
        return
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    values = [value for node in nodes for value in node.outputs if value.name]
    counts = Counter(value.name for value in values)
    try:
        light = onnx.shape_inference.infer_shapes(without_weights(model), data_prop=True)
    except Exception:  # as above
        return
    found = {item.name: item for graph, _ in graphs(light.graph) for item in graph.value_info}
    for value in values:
        if value.name in found and counts[value.name] == 1:
            described = ir.serde.deserialize_value_info_proto(found[value.name], None)
            value.type = value.type or described.type
            value.shape = value.shape if value.shape is not None else described.shape


def _is_described(value: ir.Value) -> bool:
    return value.shape is not None and value.dtype is not None


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
