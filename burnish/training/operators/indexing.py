"""Operators that take elements from places, or put them there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator, whole


def _counted(indices: Tensor, size: int) -> Tensor:
    """Indices with those from the end counted from the start."""
    return torch.where(indices < 0, indices + size, indices)


def _gather(attributes: Attributes, table: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % table.ndim
    places = _counted(indices, table.shape[axis])
    if axis == 0 and table.ndim == 2 and table.requires_grad:
        return functional.embedding(places, table)
    taken = table.index_select(axis, places.reshape(-1))
    return taken.reshape([*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :]])


def _gather_elements(attributes: Attributes, value: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0)
    return torch.gather(value, axis, _counted(indices, value.shape[axis]).long())


def _gather_nd(attributes: Attributes, value: Tensor, indices: Tensor) -> Tensor:
    shared = attributes.get("batch_dims", 0)
    depth, lead = indices.shape[-1], value.shape[:shared]
    flat = value.reshape(-1, *value.shape[shared:])
    rows = indices.reshape(flat.shape[0], -1, depth)
    batch = torch.arange(flat.shape[0])[:, None].expand(rows.shape[:2])
    places = tuple(_counted(rows[..., i], flat.shape[1 + i]) for i in range(depth))
    taken = flat[(batch, *places)]
    return taken.reshape([*lead, *indices.shape[shared:-1], *value.shape[shared + depth :]])


def _slice(
    attributes: Attributes, value: Tensor, starts: Tensor, ends: Tensor,
    axes: Tensor | None = None, steps: Tensor | None = None,
) -> Tensor:  # fmt: skip
    first, last = whole(starts), whole(ends)
    along = whole(axes) or list(range(len(first)))
    strides = whole(steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, strides, strict=True):
        places = range(*slice(start, end, step).indices(value.shape[axis]))
        if step == 1:
            value = value.narrow(axis, places.start if places else 0, len(places))
        elif places != range(value.shape[axis]):
            value = value.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return value


def _scatter_nd(attributes: Attributes, value: Tensor, indices: Tensor, new: Tensor) -> Tensor:
    depth = indices.shape[-1]
    places = tuple(_counted(indices[..., i], value.shape[i]) for i in range(depth))
    return value.index_put(places, new, accumulate=attributes.get("reduction", "none") == "add")


def _scatter_elements(
    attributes: Attributes, value: Tensor, indices: Tensor, new: Tensor
) -> Tensor:
    axis = attributes.get("axis", 0)
    places = _counted(indices, value.shape[axis])
    if attributes.get("reduction", "none") == "add":
        return value.scatter_add(axis, places, new)
    return value.scatter(axis, places, new)


def _one_hot(attributes: Attributes, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    count, axis = int(depth.item()), attributes.get("axis", -1)
    hot = functional.one_hot(_counted(indices.long(), count), count).bool()
    hot = hot.movedim(-1, axis)
    return torch.where(hot, values[1], values[0])


INDEXING: dict[str, Operator] = {
    "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "NonZero": lambda attributes, value: torch.nonzero(value).T.contiguous(),
    "OneHot": _one_hot, "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd,
    "Slice": _slice,
}  # fmt: skip
