"""Operators that compute each element by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator, element_type


def plain(function: Callable[..., Tensor]) -> Operator:
    """An operator without attributes."""
    return lambda attributes, *inputs: function(*inputs)


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs, taken two by two."""
    return lambda attributes, *inputs: functools.reduce(function, inputs)


def _divide(attributes: Attributes, first: Tensor, second: Tensor) -> Tensor:
    whole = not first.is_floating_point()
    return torch.div(first, second, rounding_mode="trunc" if whole else None)


def _power(attributes: Attributes, base: Tensor, exponent: Tensor) -> Tensor:
    if exponent.numel() == 1 and not exponent.requires_grad:
        return base ** exponent.item()
    return (base**exponent).to(base.dtype)


def _modulo(attributes: Attributes, first: Tensor, second: Tensor) -> Tensor:
    function = torch.fmod if attributes.get("fmod") else torch.remainder
    return function(first, second)


def _cast(attributes: Attributes, value: Tensor) -> Tensor:
    return value.to(element_type(attributes["to"]))


def _clip(
    attributes: Attributes, value: Tensor, least: Tensor | None = None, most: Tensor | None = None
) -> Tensor:
    return torch.clamp(value, least, most) if (least, most) != (None, None) else value


def _gelu(attributes: Attributes, value: Tensor) -> Tensor:
    return functional.gelu(value, approximate=attributes.get("approximate", "none"))


def _leaky(attributes: Attributes, value: Tensor) -> Tensor:
    return functional.leaky_relu(value, attributes.get("alpha", 0.01))


def _elu(attributes: Attributes, value: Tensor) -> Tensor:
    return functional.elu(value, attributes.get("alpha", 1.0))


def _hard_sigmoid(attributes: Attributes, value: Tensor) -> Tensor:
    slope, start = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return torch.clamp(value * slope + start, 0.0, 1.0)


def _swish(attributes: Attributes, value: Tensor) -> Tensor:
    return value * torch.sigmoid(attributes.get("alpha", 1.0) * value)


def _is_infinite(attributes: Attributes, value: Tensor) -> Tensor:
    negative = torch.isneginf(value) & bool(attributes.get("detect_negative", 1))
    return negative | (torch.isposinf(value) & bool(attributes.get("detect_positive", 1)))


def _mean(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


ELEMENTWISE: dict[str, Operator] = {
    "Abs": plain(torch.abs), "Add": plain(torch.add), "And": plain(torch.logical_and),
    "Cast": _cast, "CastLike": lambda attributes, value, like: value.to(like.dtype),
    "Ceil": plain(torch.ceil), "Clip": _clip, "Cos": plain(torch.cos), "Div": _divide,
    "Dropout": lambda attributes, value, *rest: value, "Elu": _elu, "Equal": plain(torch.eq),
    "Erf": plain(torch.erf), "Exp": plain(torch.exp), "Floor": plain(torch.floor), "Gelu": _gelu,
    "Greater": plain(torch.gt), "GreaterOrEqual": plain(torch.ge), "HardSigmoid": _hard_sigmoid,
    "HardSwish": plain(functional.hardswish), "Identity": plain(lambda value: value),
    "IsInf": _is_infinite, "IsNaN": plain(torch.isnan), "LeakyRelu": _leaky,
    "Less": plain(torch.lt), "LessOrEqual": plain(torch.le), "Log": plain(torch.log),
    "Max": folded(torch.maximum), "Mean": _mean, "Min": folded(torch.minimum),
    "Mish": plain(functional.mish), "Mod": _modulo, "Mul": plain(torch.mul),
    "Neg": plain(torch.neg), "Not": plain(torch.logical_not), "Or": plain(torch.logical_or),
    "Pow": _power, "Reciprocal": plain(torch.reciprocal), "Relu": plain(torch.relu),
    "Round": plain(torch.round), "Sigmoid": plain(torch.sigmoid), "Sign": plain(torch.sign),
    "Sin": plain(torch.sin), "Softplus": plain(functional.softplus), "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub), "Sum": folded(torch.add), "Swish": _swish, "Tanh": plain(torch.tanh),
    "Where": plain(torch.where), "Xor": plain(torch.logical_xor),
}  # fmt: skip
