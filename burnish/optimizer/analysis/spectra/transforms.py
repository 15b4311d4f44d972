"""What a `DFT` node computes, along an axis whose length is known, or only in a run."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, optional, scalar
from burnish.optimizer.analysis.sizes import Size, Sizes

AXIS_IS_INPUT = 20
"""The operator set from which `DFT` takes its axis as an input."""


@dataclass(frozen=True)
class Transform:
    """One `DFT`.

    Attributes:
        node: the operator.
        source: [..., n, ..., 1], or [..., n, ..., 2] of real and imaginary parts.
        rank: axes of the source.
        axis: that is transformed, counted from the front.
        present: elements of the source along it.
        length: of the transform; equal to `present` where both are known in a run only.
        real: whether the source has no imaginary part, or one of zeros.
        inverse, onesided: as of the operator.
    """

    node: ir.Node
    source: ir.Value
    rank: int
    axis: int
    present: Size
    length: Size
    real: bool
    inverse: bool
    onesided: bool

    @property
    def output(self) -> ir.Value:
        """What the operator gives."""
        return self.node.outputs[0]

    @property
    def gives_real(self) -> bool:
        """Whether the result has no imaginary part, nor room for one."""
        return self.inverse and self.onesided


def transform_of(node: ir.Node, sizes: Sizes, opset: int) -> Transform | str:
    """What a `DFT` computes, or why that is not known."""
    source = node.inputs[0]
    shape = sizes.shape(source)
    if source is None or shape is None:
        return "the rank of what it transforms is not known"
    if len(shape) < 2 or shape[-1].number not in (1, 2):
        return "whether it transforms real or complex numbers is not known"
    axis = _axis(node, opset)
    if axis is None or not -len(shape) <= axis < len(shape) or axis in (-1, len(shape) - 1):
        return "its axis is no constant, or not one of positions"
    axis %= len(shape)
    inverse = bool(node.attributes.get_int("inverse", 0))
    onesided = bool(node.attributes.get_int("onesided", 0))
    length = shape[axis]
    if (given := optional(node, 1)) is not None:
        elements = sizes.elements(given)
        if elements is None or len(elements) != 1:
            return "its length is computed in a way that is not understood"
        length = elements[0]
    elif inverse and onesided:
        length = shape[axis] + shape[axis] - Size.of(2)
    single = shape[-1].number == 1
    if onesided and not inverse and not single:
        return "one side of the spectrum of complex numbers is not defined"
    real = single or lifted(source) is not None
    return Transform(node, source, len(shape), axis, shape[axis], length, real, inverse, onesided)


def _axis(node: ir.Node, opset: int) -> int | None:
    if opset < AXIS_IS_INPUT:
        return node.attributes.get_int("axis", 1)
    given = optional(node, 2)
    number = scalar(given) if given is not None else -2.0
    return int(number) if number is not None else None


def lifted(source: ir.Value) -> ir.Value | None:
    """The real part [..., 1] that a value [..., 2] joins with zeros, if that is what it does.

    Exporters make complex numbers of real ones so before they transform them.
    """
    joined = made_by(source, "Concat")
    if joined is None or len(joined.inputs) != 2:
        return None
    first, second = joined.inputs
    last = len(source.shape) - 1 if source.shape is not None else -1
    if joined.attributes.get_int("axis", 0) not in (-1, last) or not _is_zero(second):
        return None
    return first


def _is_zero(value: ir.Value | None) -> bool:
    if (node := made_by(value, "Expand")) is not None:
        return _is_zero(node.inputs[0])
    if (node := made_by(value, "ConstantOfShape")) is not None:
        filling = node.attributes.get_tensor("value", None)
        return filling is None or not filling.numpy().any()
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return tensor is not None and not tensor.numpy().any()
