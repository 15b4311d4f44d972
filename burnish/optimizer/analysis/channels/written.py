"""What nodes say of sizes: parts of an axis, shapes made of numbers, questions of length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.channels.axis import Axis, Coupled
from burnish.optimizer.analysis.matching import optional, rank


def sizes(value: ir.Value | None) -> list[int | None]:
    """The sizes of a value that are numbers."""
    if value is None or value.shape is None:
        raise Coupled("the sizes of a value are not known")
    return [size if isinstance(size, int) else None for size in value.shape]


def written(shape: ir.Value | None) -> list[int | None] | None:
    """The numbers that a shape is put together from; None for what is computed, or for all."""
    if shape is None:
        return None
    if shape.const_value is not None and shape.producer() is None:
        return [int(size) for size in shape.const_value.numpy().reshape(-1)]
    node = shape.producer()
    if node is None or node.op_type != "Concat" or node.domain != "":
        return None
    parts: list[int | None] = []
    for part in node.inputs:
        tensor = ir.convenience.get_const_tensor(part) if part is not None else None
        if tensor is not None and tensor.size == 1:
            parts.append(int(tensor.numpy().reshape(())))
        elif part is not None and part.shape is not None and list(part.shape) == [1]:
            parts.append(None)
        else:
            return None
    return parts


def parts_of(node: ir.Node, place: int) -> list[tuple[int, int]] | None:
    """First and last-but-one element of each part along an axis; None where computed.

    None of them where the node takes parts along other axes.
    """
    source = node.inputs[0]
    if source is None or node.op_type not in ("Split", "Slice", "Gather"):
        return None
    length = sizes(source)[place]
    if node.op_type == "Gather":
        picked = numbers(optional(node, 1))
        if node.attributes.get_int("axis", 0) % rank(source) != place:
            return []
        return [(picked[0] % length,) * 2] if picked and length and len(picked) == 1 else None
    if node.op_type == "Split":
        if node.attributes.get_int("axis", 0) % rank(source) != place:
            return []
        ends = np.cumsum([0, *(sizes(item)[place] or -1 for item in node.outputs)]).tolist()
        return list(pairwise(ends)) if ends[-1] == length else None
    starts, ends, axes, steps = (numbers(optional(node, index)) for index in range(1, 5))
    if axes is None and optional(node, 3) is None:
        axes = list(range(len(starts or ())))
    if axes is None:
        return None
    if place not in [axis % rank(source) for axis in axes]:
        return []
    if len(axes) != 1 or not starts or not ends or (steps or [1]) != [1] or length is None:
        return None
    first, last = (item + length if item < 0 else min(item, length) for item in (*starts, *ends))
    return [(first, last)]


def numbers(value: ir.Value | None) -> list[int] | None:
    """The whole numbers of a constant."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return [int(item) for item in tensor.numpy().reshape(-1)] if tensor is not None else None


def hold_shape(node: ir.Node, axis: Axis) -> None:
    """Raise where somebody may ask how many channels there are."""
    length = rank(node.inputs[0])
    start = node.attributes.get_int("start", 0) % max(length, 1)
    end = node.attributes.get_int("end", length)
    end = end + length if end < 0 else min(end, length)
    if not start <= axis.place < end:
        return
    for use in node.outputs[0].uses():
        known = numbers(optional(use.node, 1)) if use.idx == 0 else None
        picked = use.node.op_type == "Gather" and known is not None
        if picked and axis.place - start not in [item % (end - start) for item in known or ()]:
            continue
        taken = parts_of(use.node, 0) if use.node.op_type == "Slice" and use.idx == 0 else None
        if taken and not any(low <= axis.place - start < high for low, high in taken):
            continue
        raise Coupled("their number is computed with")
