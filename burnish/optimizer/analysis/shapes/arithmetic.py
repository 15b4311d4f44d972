"""Size arithmetic at given sizes: numbers computed from shapes, on a message without weights.

ONNX's shape inference follows such numbers a part of the way, and stops at `Range`, for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from burnish.optimizer.contract import Array

MOST = 64
"""Elements of the largest value that is computed on."""

Shapes = Mapping[str, tuple[int, ...]]


def compute_sizes(light: onnx.ModelProto, shapes: Shapes) -> bool:
    """Put constants in place of nodes that compute small values from shapes; whether any was.

    In place of a `Range` of known length comes an input of that length.
    """
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in light.graph.initializer
        if math.prod(tensor.dims) <= MOST and tensor.data_type != TensorProto.STRING
    }
    kept, changed = [], False
    with np.errstate(all="ignore"):
        for node in light.graph.node:
            if node.op_type == "Range" and (length := _length(node, known)) is not None:
                bound = helper.make_tensor_value_info(node.output[0], TensorProto.INT64, [length])
                if node.output[0] not in shapes:
                    light.graph.input.append(bound)
                    changed = True
                    continue
            value = _value(node, known, shapes)
            if value is None:
                kept.append(node)
                continue
            known[node.output[0]] = value
            light.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            changed = True
    del light.graph.node[:]
    light.graph.node.extend(kept)
    return changed


def _length(node: NodeProto, known: Mapping[str, Array]) -> int | None:
    """Elements of a `Range`; None where they depend on data."""
    if len(node.input) != 3 or any(name not in known for name in node.input):
        return None
    start, limit, step = (float(known[name].reshape(-1)[0]) for name in node.input)
    length = (limit - start) / step if step else math.nan
    return max(0, math.ceil(length)) if math.isfinite(length) else None


def _value(node: NodeProto, known: Mapping[str, Array], shapes: Shapes) -> Array | None:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type in ("Shape", "Size"):
        shape = shapes.get(node.input[0])
        if shape is None or len(shape) > MOST:
            return None
        if node.op_type == "Size":
            return np.array(math.prod(shape), np.int64)
        return np.array(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)
    if node.op_type == "Constant":
        tensor = attributes.get("value")
        if (
            tensor is None
            or math.prod(tensor.dims) > MOST
            or tensor.data_type == TensorProto.STRING
        ):
            return None
        return numpy_helper.to_array(tensor)
    compute = OPERATIONS.get(node.op_type)
    if compute is None or any(name and name not in known for name in node.input):
        return None
    try:
        result = np.asarray(compute(attributes, *(known.get(name) for name in node.input)))
    except (ValueError, IndexError, TypeError, ArithmeticError, KeyError):
        return None  # what is wrong with it, shape inference may say
    return result if result.size <= MOST else None


def _axes(attributes: dict[str, Any], given: Array | None) -> tuple[int, ...] | None:
    axes = attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return None if axes is None else tuple(axes)


def _cast(attributes: dict[str, Any], value: Array) -> Array:
    return value.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _quotient(attributes: dict[str, Any], left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu":
        return np.asarray(np.trunc(left / right)).astype(left.dtype)
    return left / right


def _slice(
    attributes: dict[str, Any],
    value: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    given = (starts, ends, axes, steps)
    names = ("starts", "ends", "axes", "steps")
    first, last, places, strides = (
        list(attributes.get(name, ())) if array is None else array.reshape(-1).tolist()
        for name, array in zip(names, given, strict=True)
    )
    taken = [slice(None)] * value.ndim
    for index, place in enumerate(places or range(len(first))):
        step = strides[index] if strides else 1
        end = last[index]
        whole = step < 0 and end < -value.shape[place]  # past the first element, going back
        taken[place] = slice(first[index], None if whole else end, step)
    return value[tuple(taken)]


def _filled(attributes: dict[str, Any], shape: Array) -> Array:
    if math.prod(shape.tolist()) > MOST:
        raise ValueError
    tensor = attributes.get("value")
    fill = numpy_helper.to_array(tensor) if tensor is not None else np.zeros(1, np.float32)
    return np.full(tuple(shape.tolist()), fill.reshape(-1)[0], fill.dtype)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda attributes, *values: function(*values)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "Identity": _plain(lambda value: value),
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _quotient,
    "Mod": _plain(np.mod),
    "Neg": _plain(np.negative),
    "Abs": _plain(np.abs),
    "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil),
    "Sqrt": _plain(np.sqrt),
    "Min": _plain(lambda *values: np.minimum.reduce(values)),
    "Max": _plain(lambda *values: np.maximum.reduce(values)),
    "Equal": _plain(np.equal),
    "Less": _plain(np.less),
    "Greater": _plain(np.greater),
    "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or),
    "Not": _plain(np.logical_not),
    "Where": _plain(np.where),
    "Cast": _cast,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Concat": lambda attributes, *values: np.concatenate(values, attributes["axis"]),
    "Gather": lambda attributes, value, index: np.take(value, index, attributes.get("axis", 0)),
    "Squeeze": lambda attributes, value, axes=None: np.squeeze(value, _axes(attributes, axes)),
    "Unsqueeze": lambda attributes, value, axes=None: np.expand_dims(
        value, _axes(attributes, axes) or ()
    ),
    "ReduceProd": lambda attributes, value, axes=None: np.prod(
        value, _axes(attributes, axes), keepdims=bool(attributes.get("keepdims", 1))
    ),
    "Transpose": lambda attributes, value: np.transpose(value, attributes.get("perm")),
    "Reshape": lambda attributes, value, shape: value.reshape(shape.tolist()),
}
"""What each operator makes of its attributes and inputs."""
