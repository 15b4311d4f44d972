"""Operators that make one element of several along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from burnish.training.operators.form import Attributes, Operator, whole

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reduction(reduce: Reduce) -> Operator:
    def operator(attributes: Attributes, value: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = whole(axes) or whole(attributes.get("axes"))
        if not chosen and attributes.get("noop_with_empty_axes"):
            return value
        along = tuple(axis % value.ndim for axis in chosen or range(value.ndim))
        return reduce(value, along, bool(attributes.get("keepdims", 1)))

    return operator


def _product(value: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        value = value.prod(axis, keepdim=keep)
    return value


def _sum(value: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return value.sum(axes, keepdim=keep, dtype=value.dtype)


def _first(choose: Callable[..., Tensor]) -> Operator:
    def operator(attributes: Attributes, value: Tensor) -> Tensor:
        axis, keep = attributes.get("axis", 0), bool(attributes.get("keepdims", 1))
        return choose(value, axis, keepdim=keep)

    return operator


def _cumulated(attributes: Attributes, value: Tensor, axis: Tensor) -> Tensor:
    along = int(axis.item())
    if attributes.get("reverse"):
        value = value.flip(along)
    summed = value.cumsum(along, dtype=value.dtype)
    if attributes.get("exclusive"):
        summed = summed - value
    return summed.flip(along) if attributes.get("reverse") else summed


def _largest(attributes: Attributes, value: Tensor, count: Tensor) -> Sequence[Tensor]:
    largest, ordered = bool(attributes.get("largest", 1)), bool(attributes.get("sorted", 1))
    return torch.topk(value, int(count.item()), attributes.get("axis", -1), largest, ordered)


REDUCTIONS: dict[str, Operator] = {
    "ArgMax": _first(torch.argmax), "ArgMin": _first(torch.argmin), "CumSum": _cumulated,
    "ReduceL1": _reduction(lambda value, axes, keep: value.abs().sum(axes, keepdim=keep)),
    "ReduceL2": _reduction(lambda value, axes, keep: (value * value).sum(axes, keep).sqrt()),
    "ReduceLogSumExp": _reduction(lambda value, axes, keep: value.logsumexp(axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda value, axes, keep: value.amax(axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda value, axes, keep: value.mean(axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda value, axes, keep: value.amin(axes, keepdim=keep)),
    "ReduceProd": _reduction(_product), "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(lambda value, axes, keep: (value * value).sum(axes, keep)),
    "TopK": _largest,
}  # fmt: skip
