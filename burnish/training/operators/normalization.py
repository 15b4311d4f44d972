"""Normalizations and softmaxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator


def _layer(
    attributes: Attributes, value: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    axis, epsilon = attributes.get("axis", -1) % value.ndim, attributes.get("epsilon", 1e-5)
    sizes = value.shape[axis:]
    if scale.shape == sizes and (bias is None or bias.shape == sizes):
        return functional.layer_norm(value, list(sizes), scale, bias, epsilon)
    normal = functional.layer_norm(value, list(sizes), eps=epsilon) * scale
    return normal if bias is None else normal + bias


def _root_mean_square(attributes: Attributes, value: Tensor, scale: Tensor) -> Tensor:
    axis = attributes.get("axis", -1) % value.ndim
    axes = tuple(range(axis, value.ndim))
    square = (value * value).mean(axes, keepdim=True)
    return value * torch.rsqrt(square + attributes.get("epsilon", 1e-5)) * scale


def _batch(
    attributes: Attributes, value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, spread: Tensor
) -> Tensor:
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.batch_norm(value, mean, spread, scale, bias, False, 0.0, epsilon)


def _instance(attributes: Attributes, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.instance_norm(value, weight=scale, bias=bias, eps=epsilon)


def _group(attributes: Attributes, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, epsilon = attributes["num_groups"], attributes.get("epsilon", 1e-5)
    if scale.shape[0] == groups != value.shape[1]:  # operator set 18 has one scale for each group
        scale, bias = (item.repeat_interleave(value.shape[1] // groups) for item in (scale, bias))
    return functional.group_norm(value, groups, scale, bias, epsilon)


def _softmax(attributes: Attributes, value: Tensor) -> Tensor:
    return value.softmax(attributes.get("axis", -1))


def _log_softmax(attributes: Attributes, value: Tensor) -> Tensor:
    return value.log_softmax(attributes.get("axis", -1))


NORMALIZATION: dict[str, Operator] = {
    "BatchNormalization": _batch, "GroupNormalization": _group, "InstanceNormalization": _instance,
    "LayerNormalization": _layer, "LogSoftmax": _log_softmax,
    "RMSNormalization": _root_mean_square, "Softmax": _softmax,
}  # fmt: skip
