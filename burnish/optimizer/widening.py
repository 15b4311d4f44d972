"""Models whose Fourier transforms are computed in float64, for others to be compared with.

ONNX Runtime's kernels for `DFT` and `STFT` take the angles of long transforms in float32 where the
length is no power of 2: the result is off by 1.1e-7 times the length (8e-5 at 768; in float64 by
3e-8). Where one frequency is far larger than the others, as that of the mean often is, these are
off by as much of it. What computes them exactly must not be held to that.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from burnish.optimizer.analysis.shapes import element_types

REAL = {"DFT": (0,), "STFT": (0, 2)}
"""Transforms, with those of their inputs that have the type of the result."""


def widened(model: ir.Model) -> ir.Model:
    """The model with transforms of float32 computed in float64; itself where it has none."""
    if not any(_is_transform(node) for node in _nodes(model)):
        return model
    copy, types = model.clone(), element_types(model)
    for node in [node for node in _nodes(copy) if _is_transform(node)]:
        source = node.inputs[0]
        kind = (source.dtype or types.get(source.name or "")) if source is not None else None
        if kind is ir.DataType.FLOAT:
            _widen(node)
    return copy


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(model.graph))


def _is_transform(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in REAL


def _widen(node: ir.Node) -> None:
    """Put casts around a transform; what it gives in the end keeps its name."""
    graph, output = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    for index in REAL[node.op_type]:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None:
            cast = ir.node("Cast", [value], {"to": ir.DataType.DOUBLE.value})
            graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
    back = ir.node("Cast", [output], {"to": ir.DataType.FLOAT.value})
    name, value = output.name, back.outputs[0]
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), output.shape
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    back.replace_input_with(0, output)
    output.type = ir.TensorType(ir.DataType.DOUBLE)
    graph.insert_after(node, back)
    output.name, value.name = f"{name}_wide", name
