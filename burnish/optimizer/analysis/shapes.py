"""Concrete shapes of every value for given sizes of the symbolic dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.shape_inference import inferred_shapes
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
