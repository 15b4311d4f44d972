"""Operators that give elements another shape, or tell of shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator, whole


def _constant(attributes: Attributes) -> Tensor:
    for name, kind in (("value_int", torch.int64), ("value_ints", torch.int64)):
        if name in attributes:
            return torch.tensor(attributes[name], dtype=kind)
    for name in ("value_float", "value_floats"):
        if name in attributes:
            return torch.tensor(attributes[name], dtype=torch.float32)
    value: Tensor = attributes["value"]
    return value


def _shape(attributes: Attributes, value: Tensor) -> Tensor:
    end = attributes.get("end")
    return torch.tensor(list(value.shape)[attributes.get("start", 0) : end], dtype=torch.int64)


def _reshape(attributes: Attributes, value: Tensor, shape: Tensor) -> Tensor:
    sizes = whole(shape)
    if not attributes.get("allowzero"):
        sizes = [value.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return value.reshape(sizes)


def _transpose(attributes: Attributes, value: Tensor) -> Tensor:
    return value.permute(attributes.get("perm") or tuple(range(value.ndim))[::-1])


def _flatten(attributes: Attributes, value: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    axis += value.ndim if axis < 0 else 0
    rows = 1
    for size in value.shape[:axis]:
        rows *= size
    return value.reshape(rows, -1)


def _squeeze(attributes: Attributes, value: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = whole(axes) or whole(attributes.get("axes"))
    return value.squeeze(tuple(chosen)) if chosen else value.squeeze()


def _unsqueeze(attributes: Attributes, value: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = whole(axes) or whole(attributes.get("axes"))
    rank = value.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        value = value.unsqueeze(axis)
    return value


def _expand(attributes: Attributes, value: Tensor, shape: Tensor) -> Tensor:
    sizes = whole(shape)
    mine = [1] * (len(sizes) - value.ndim) + list(value.shape)
    wanted = [1] * (value.ndim - len(sizes)) + sizes
    return value.expand(
        [max(pair) if 0 not in pair else 0 for pair in zip(mine, wanted, strict=True)]
    )


def _tile(attributes: Attributes, value: Tensor, repeats: Tensor) -> Tensor:
    return value.repeat(whole(repeats))


def _concat(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, attributes["axis"])


def _split(attributes: Attributes, value: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis, parts = attributes.get("axis", 0), whole(sizes) or whole(attributes.get("split"))
    if parts:
        return torch.split(value, parts, axis)
    count = attributes["num_outputs"]
    return torch.split(value, -(-value.shape[axis] // count), axis)


def _pad(
    attributes: Attributes, value: Tensor, pads: Tensor, fill: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    mode, amounts = attributes.get("mode", "constant"), whole(pads)
    chosen = whole(axes) or list(range(value.ndim))
    around = [0] * (2 * value.ndim)
    for place, axis in enumerate(chosen):
        back = 2 * (value.ndim - 1 - axis % value.ndim)
        around[back], around[back + 1] = amounts[place], amounts[place + len(chosen)]
    if mode == "constant":
        return functional.pad(value, around, value=fill.item() if fill is not None else 0.0)
    while around[-2:] == [0, 0]:
        around = around[:-2]
    named = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    return functional.pad(value, around, mode=named[mode])


def _full(attributes: Attributes, shape: Tensor) -> Tensor:
    value: Tensor = attributes.get("value", torch.zeros(1))
    return value.reshape(()).expand(whole(shape)).clone()


def _range(attributes: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _trilu(attributes: Attributes, value: Tensor, diagonal: Tensor | None = None) -> Tensor:
    offset = int(diagonal.item()) if diagonal is not None else 0
    cut = torch.triu if attributes.get("upper", 1) else torch.tril
    return cut(value, offset)


SHAPES: dict[str, Operator] = {
    "Concat": _concat, "Constant": _constant, "ConstantOfShape": _full, "Expand": _expand,
    "Flatten": _flatten, "Pad": _pad, "Range": _range, "Reshape": _reshape, "Shape": _shape,
    "Size": lambda attributes, value: torch.tensor(value.numel()), "Split": _split,
    "Squeeze": _squeeze, "Tile": _tile, "Transpose": _transpose, "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}  # fmt: skip
