"""Convolutions and what else knows of the neighbourhood of an element."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator

CONVOLUTIONS: dict[int, Any] = {
    1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d,
}  # fmt: skip
TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d, 2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}  # fmt: skip
AVERAGES: dict[int, Any] = {
    1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d,
}  # fmt: skip
LARGEST: dict[int, Any] = {
    1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d,
}  # fmt: skip


def _padded(attributes: Attributes, value: Tensor, kernel: list[int], fill: float = 0.0) -> Tensor:
    """The value with what the operator pads around it."""
    axes = len(kernel)
    strides = attributes.get("strides") or [1] * axes
    spread = attributes.get("dilations") or [1] * axes
    automatic = attributes.get("auto_pad", "NOTSET")
    pads = attributes.get("pads") or [0] * (2 * axes)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * axes)
        for axis in range(axes):
            size, reach = value.shape[2 + axis], spread[axis] * (kernel[axis] - 1) + 1
            missing = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + reach - size)
            less, more = missing // 2, missing - missing // 2
            upper = automatic == "SAME_UPPER"
            pads[axis], pads[axis + axes] = (less, more) if upper else (more, less)
    around = [pads[place] for axis in reversed(range(axes)) for place in (axis, axis + axes)]
    return functional.pad(value, around, value=fill) if any(around) else value


def _convolution(
    attributes: Attributes, value: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    axes = weight.ndim - 2
    value = _padded(attributes, value, list(weight.shape[2:]))
    result: Tensor = CONVOLUTIONS[axes](
        value, weight, bias, stride=attributes.get("strides") or 1,
        dilation=attributes.get("dilations") or 1, groups=attributes.get("group", 1),
    )  # fmt: skip
    return result


def _transposed(
    attributes: Attributes, value: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    axes = weight.ndim - 2
    pads = attributes.get("pads") or [0] * (2 * axes)
    odd = attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes
    if odd or pads[:axes] != pads[axes:]:
        raise NotImplementedError("its padding differs between the sides")
    result: Tensor = TRANSPOSED[axes](
        value, weight, bias, stride=attributes.get("strides") or 1, padding=pads[:axes],
        output_padding=attributes.get("output_padding") or 0, groups=attributes.get("group", 1),
        dilation=attributes.get("dilations") or 1,
    )  # fmt: skip
    return result


def _average(attributes: Attributes, value: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    padded = _padded(attributes, value, kernel)
    if padded is not value and not attributes.get("count_include_pad"):
        raise NotImplementedError("it leaves padding out of its means")
    strides = attributes.get("strides") or [1] * len(kernel)
    result: Tensor = AVERAGES[len(kernel)](padded, kernel, strides)
    return result


def _largest(attributes: Attributes, value: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    padded = _padded(attributes, value, kernel, float("-inf"))
    strides = attributes.get("strides") or [1] * len(kernel)
    spread = attributes.get("dilations") or 1
    result: Tensor = LARGEST[len(kernel)](padded, kernel, strides, dilation=spread)
    return result


def _mean_of_image(attributes: Attributes, value: Tensor) -> Tensor:
    return value.mean(tuple(range(2, value.ndim)), keepdim=True)


IMAGES: dict[str, Operator] = {
    "AveragePool": _average, "Conv": _convolution, "ConvTranspose": _transposed,
    "GlobalAveragePool": _mean_of_image, "MaxPool": _largest,
}  # fmt: skip
