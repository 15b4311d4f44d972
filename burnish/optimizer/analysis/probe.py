"""Shapes of all values, and elements of small ones, at given sizes of the inputs' dimensions.

ONNX's own inference loses a size where it becomes a scalar (`Range(0, length, 1)`), and a length
that was computed where it bounds a `Slice`. Here what depends on shapes alone is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.shape_inference import infer_node_outputs

from burnish.optimizer.analysis.shapes import resolve
from burnish.optimizer.contract import Array

SMALL = 4096
"""Elements of the largest value that is computed."""

FEW = 64
"""Elements of the largest value that shape inference is told."""


class Probe:
    """What the main graph's values are for one assignment of sizes.

    Args:
        model: stays as it is; nodes of subgraphs and unknown operators are passed over.
        sizes: element counts by symbolic dimension.
    """

    def __init__(self, model: ir.Model, sizes: Mapping[str, int]) -> None:
        self._types: dict[ir.Value, onnx.TypeProto] = {}
        self._elements: dict[ir.Value, Array] = {}
        self._opsets = dict(model.opset_imports)
        for value in model.graph.inputs:
            self._input(value, sizes)
        for node in model.graph:
            self._visit(node)

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """The shape of a value; None where it is not known in full."""
        if value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        found = self._types.get(value)
        if found is None or not found.tensor_type.HasField("shape"):
            return None
        dims = found.tensor_type.shape.dim
        known = all(dim.HasField("dim_value") for dim in dims)
        return tuple(dim.dim_value for dim in dims) if known else None

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type of a value."""
        if value.const_value is not None:
            return value.const_value.dtype
        found = self._types.get(value)
        return ir.DataType(found.tensor_type.elem_type) if found is not None else value.dtype

    def elements(self, value: ir.Value | None) -> Array | None:
        """The elements of a small value that depends on constants and shapes alone."""
        if value is None:
            return None
        if value not in self._elements and value.const_value is not None:
            tensor = value.const_value
            if tensor.size > SMALL or tensor.dtype is ir.DataType.STRING:
                return None
            self._elements[value] = tensor.numpy()
        return self._elements.get(value)

    def _input(self, value: ir.Value, sizes: Mapping[str, int]) -> None:
        if value.shape is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
            return
        shape = [
            dim if isinstance(dim, int) else resolve(str(dim.value), sizes) for dim in value.shape
        ]
        self._types[value] = onnx.helper.make_tensor_type_proto(value.dtype.value, shape)

    def _visit(self, node: ir.Node) -> None:
        if node.domain != "":
            return
        if node.op_type == "Constant":
            tensor = ir.convenience.get_const_tensor(node.outputs[0])
            if tensor is not None and tensor.dtype is not ir.DataType.STRING:
                self._set(node.outputs[0], tensor.numpy())
            return
        found = self._computed(node)
        if found is not None and found.size <= SMALL:
            self._set(node.outputs[0], found)
            return
        self._infer(node)

    def _set(self, value: ir.Value, elements: Array) -> None:
        kind = ir.DataType.from_numpy(elements.dtype).value
        self._types[value] = onnx.helper.make_tensor_type_proto(kind, elements.shape)
        if elements.size <= SMALL:
            self._elements[value] = elements

    def _computed(self, node: ir.Node) -> Array | None:
        if node.op_type in ("Shape", "Size") and node.inputs[0] is not None:
            shape = self.shape(node.inputs[0])
            if shape is None:
                return None
            if node.op_type == "Size":
                return np.array(int(np.prod(shape)), np.int64)
            start = node.attributes.get_int("start", 0)
            return np.array(shape[start : node.attributes.get_int("end", len(shape))], np.int64)
        compute = COMPUTED.get(node.op_type)
        if compute is None or not node.inputs:
            return None
        inputs = [self.elements(value) for value in node.inputs]
        missing = (item is None for item in inputs)
        if any(lost and value for lost, value in zip(missing, node.inputs, strict=True)):
            return None
        try:
            with np.errstate(all="ignore"):
                return np.asarray(compute(node, inputs))
        except (ValueError, IndexError, TypeError, ZeroDivisionError, MemoryError):
            return None  # not legal at these sizes

    def _infer(self, node: ir.Node) -> None:
        types, data = {}, {}
        for value in node.inputs:
            if value is None:
                continue
            shape, kind = self.shape(value), self.dtype(value)
            if kind is None:
                return
            types[value.name or ""] = onnx.helper.make_tensor_type_proto(kind.value, shape)
            elements = self.elements(value)
            if elements is not None and elements.size <= FEW:
                data[value.name or ""] = numpy_helper.from_array(elements)
        opsets = [onnx.helper.make_opsetid(name, version) for name, version in self._opsets.items()]
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get("", 1), "")
            message = ir.to_proto(node)
            found = infer_node_outputs(schema, message, types, data, opset_imports=opsets)
        except Exception:  # the binding raises types of its own; unknown shapes are legal
            return
        for value in node.outputs:
            if value.name in found and found[value.name].HasField("tensor_type"):
                self._types[value] = found[value.name]


def _axes(node: ir.Node, inputs: list[Array | None]) -> tuple[int, ...]:
    given = inputs[1] if len(inputs) > 1 else None
    return tuple(given.reshape(-1) if given is not None else node.attributes.get_ints("axes", ()))


def _slice(node: ir.Node, inputs: list[Array | None]) -> Array:
    data, *rest = inputs
    assert data is not None
    starts, ends, axes, steps = [*rest, None, None][:4]
    assert starts is not None and ends is not None
    index = [slice(None)] * data.ndim
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = int(axes[place]) if axes is not None else place
        step = int(steps[place]) if steps is not None else 1
        index[axis] = slice(int(start), None if step < 0 and end < -(1 << 31) else int(end), step)
    return data[tuple(index)]


def _unsqueeze(node: ir.Node, inputs: list[Array | None]) -> Array:
    return np.expand_dims(_first(inputs), _axes(node, inputs))


def _squeeze(node: ir.Node, inputs: list[Array | None]) -> Array:
    axes = _axes(node, inputs)
    return np.squeeze(_first(inputs), axes or None)


def _first(inputs: list[Array | None]) -> Array:
    assert inputs[0] is not None
    return inputs[0]


def _reshape(node: ir.Node, inputs: list[Array | None]) -> Array:
    data, shape = inputs
    assert data is not None and shape is not None
    zero = node.attributes.get_int("allowzero", 0)
    sizes = [data.shape[i] if size == 0 and not zero else size for i, size in enumerate(shape)]
    return data.reshape(sizes)


def _constant_of_shape(node: ir.Node, inputs: list[Array | None]) -> Array:
    value = node.attributes.get("value")
    fill = value.as_tensor().numpy().reshape(()) if value is not None else np.float32(0)
    shape = _first(inputs)
    if np.prod(shape, initial=1) > SMALL:
        raise ValueError("large")
    return np.full(tuple(shape), fill)


def _cast(node: ir.Node, inputs: list[Array | None]) -> Array:
    return _first(inputs).astype(ir.DataType(node.attributes["to"].as_int()).numpy())


def _expand(node: ir.Node, inputs: list[Array | None]) -> Array:
    data, shape = inputs
    assert data is not None and shape is not None
    sizes = np.broadcast_shapes(data.shape, tuple(int(size) for size in shape))
    if np.prod(sizes, initial=1) > SMALL:
        raise ValueError("large")
    return np.broadcast_to(data, sizes)


def _divide(node: ir.Node, inputs: list[Array | None]) -> Array:
    first, second = inputs
    assert first is not None and second is not None
    if first.dtype.kind == "f":
        return np.asarray(first / second)
    return np.trunc(first / second).astype(first.dtype)


def _plain(function: Callable[..., Any]) -> Callable[[ir.Node, list[Array | None]], Array]:
    def compute(node: ir.Node, inputs: list[Array | None]) -> Array:
        shapes = [item.shape for item in inputs if item is not None]
        if np.prod(np.broadcast_shapes(*shapes), initial=1) > SMALL:
            raise ValueError("large")
        return np.asarray(function(*inputs))

    return compute


COMPUTED: dict[str, Callable[[ir.Node, list[Array | None]], Array]] = {
    "Identity": lambda node, inputs: _first(inputs),
    "Cast": _cast,
    "Gather": lambda node, inputs: np.take(
        _first(inputs), inputs[1], node.attributes.get_int("axis", 0)  # type: ignore[arg-type]
    ),
    "Slice": _slice,
    "Concat": lambda node, inputs: np.concatenate(
        [item for item in inputs if item is not None], node.attributes.get_int("axis", 0)
    ),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Flatten": lambda node, inputs: _first(inputs).reshape(
        int(np.prod(_first(inputs).shape[: node.attributes.get_int("axis", 1)])), -1
    ),
    "Transpose": lambda node, inputs: np.transpose(
        _first(inputs), node.attributes.get_ints("perm", None)
    ),
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": lambda node, inputs: np.arange(*(item.item() for item in inputs if item is not None))
    .astype(_first(inputs).dtype),
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _divide,
    "Mod": _plain(np.mod),
    "Neg": _plain(np.negative),
    "Min": _plain(np.minimum),
    "Max": _plain(np.maximum),
    "Where": _plain(np.where),
    "Equal": _plain(np.equal),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Not": _plain(np.logical_not),
    "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or),
}  # fmt: skip
"""Operators of shape arithmetic, positions and masks, by name."""
