"""Shapes of values at the sizes that a model is tuned and timed at."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.contract import Context

Axes = tuple[int | str, ...]
"""Sizes of a value: a number that the model fixes, or one in digits where the axis is free.

ONNX Runtime treats a value differently where all of its sizes are known when it loads a model, so
what stands for a value in a sample must be as free as the value is.
"""


class Concrete:
    """Concrete shapes of values, inferred only where those of the input model do not say them.

    Args:
        model: whose values are asked for; inferred from once, as it is at the first question.
        context: knows the shapes of the input model, and the sizes of symbolic dimensions.
    """

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._model = model
        self._context = context
        self._inferred: Mapping[str, tuple[int, ...]] | None = None

    def of(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The sizes of a value; None where they are not known."""
        if value is not None and value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        name = (value.name if value is not None else None) or ""
        known = self._context.shapes.get(name)
        if known is not None:
            return known
        if self._inferred is None:
            self._inferred = shapes.infer(self._model, self._context.sizes)
        return self._inferred.get(name)

    def axes(self, value: ir.Value | None) -> Axes | None:
        """The sizes of a value, and which of them are free; None where they are not known."""
        sizes = self.of(value)
        if value is None or sizes is None:
            return None
        written = list(value.shape) if value.shape is not None else [None] * len(sizes)
        if len(written) != len(sizes):
            return None
        pairs = zip(sizes, written, strict=True)
        return tuple(size if isinstance(dim, int) else str(size) for size, dim in pairs)


def is_fixed(value: ir.Value | None) -> bool:
    """Whether the model fixes every size of a value."""
    known = value is not None and value.shape is not None
    return known and all(isinstance(size, int) for size in value.shape)  # type: ignore[union-attr]


def text(axes: Axes) -> str:
    """Sizes as keys of choices show them: `~8x~128x384`, free ones marked."""
    return "x".join(str(size) if isinstance(size, int) else f"~{size}" for size in axes)
