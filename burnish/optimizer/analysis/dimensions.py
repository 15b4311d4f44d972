"""The dimensions of every value: numbers, and symbols that are equal where the sizes are."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.extents import Extent, extents
from burnish.optimizer.model import without_weights

Dimension = int | str | None
"""A number, a symbol, or nothing where the size is not known."""


class Dimensions:
    """Dimensions of a model's values as its graph and ONNX's shape inference tell them.

    Inference runs once, on the model as it is then; values made or renamed later are known by what
    is written on them alone. Equal symbols stand for equal sizes: those of the inputs, and those
    that inference makes up for a size that it does not know and hands on.
    """

    def __init__(self, model: ir.Model) -> None:
        light = without_weights(model)
        del light.graph.value_info[:]
        try:
            light = onnx.shape_inference.infer_shapes(light, data_prop=True)
        except Exception:  # the C++ library raises types of its own; unknown shapes are legal
            light = onnx.ModelProto()
        self._inferred = {
            value.name: [_dimension(item) for item in value.type.tensor_type.shape.dim]
            for value in light.graph.value_info
            if value.type.tensor_type.HasField("shape")
        }
        self._graph = model.graph

    def of(self, value: ir.Value | None) -> list[Dimension] | None:
        """The dimensions of a value; None where its rank is not known."""
        if value is None:
            return None
        written: list[Dimension] | None = None
        if value.shape is not None:
            written = [size if isinstance(size, int) else size.value for size in value.shape]
        inferred = self._inferred.get(value.name or "") if value.graph is self._graph else None
        if written is None or inferred is None or len(written) != len(inferred):
            return written or (None if written is None and inferred is None else inferred)
        return [
            one if isinstance(one, int) else two if isinstance(two, int) else one or two
            for one, two in zip(written, inferred, strict=True)
        ]

    def elements(self, vector: ir.Value | None) -> list[Dimension] | None:
        """What a vector of sizes holds; None where its length is not known."""
        found = extents(vector)
        return None if found is None else [self._resolved(item) for item in found]

    def _resolved(self, extent: Extent) -> Dimension:
        if isinstance(extent, int):
            return extent
        value, axis = extent
        known = self.of(value)
        return known[axis] if known is not None else None


def broadcast(shapes: Sequence[Sequence[Dimension]]) -> list[Dimension]:
    """The dimensions of what operands of these dimensions give together.

    A size that is not known is taken for what it must be for the operands to fit: one that stands
    beside a number other than 1 gives that number.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [[1] * (rank - len(shape)) + list(shape) for shape in shapes]
    return [_together([shape[axis] for shape in padded]) for axis in range(rank)]


def _together(sizes: list[Dimension]) -> Dimension:
    large = [size for size in sizes if isinstance(size, int) and size != 1]
    if large:
        return large[0]
    open_sizes = {size for size in sizes if size != 1}
    return open_sizes.pop() if len(open_sizes) == 1 else (None if open_sizes else 1)


def _dimension(item: onnx.TensorShapeProto.Dimension) -> Dimension:
    if item.HasField("dim_value"):
        return int(item.dim_value)
    return item.dim_param or None
