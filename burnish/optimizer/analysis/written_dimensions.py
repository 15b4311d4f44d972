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
        self._same: dict[str, Dimension] = {}
        for node in model.graph:
            if node.op_type == "Range" and node.domain == "":
                self._note_range(node)

    def _note_range(self, node: ir.Node) -> None:
        """Note what a made-up symbol stands for: the numbers from 0 are as many as the limit."""
        start, limit, step = (extents(value) for value in node.inputs)
        length = self._inferred.get(node.outputs[0].name or "", [None])[0]
        if start == [0] and step == [1] and limit is not None and isinstance(length, str):
            self._same[length] = self._resolved(limit[0])

    def of(self, value: ir.Value | None) -> list[Dimension] | None:
        """The dimensions of a value; None where its rank is not known."""
        if value is None:
            return None
        inferred = self._inferred.get(value.name or "") if value.graph is self._graph else None
        if inferred is not None:
            inferred = [
                (self._same.get(item) or item) if isinstance(item, str) else item
                for item in inferred
            ]
        if value.shape is None:
            return inferred
        written = [size if isinstance(size, int) else size.value for size in value.shape]
        if inferred is None or len(written) != len(inferred):
            return written
        return [
            two if isinstance(two, int) or one is None else one
            for one, two in zip(written, inferred, strict=True)
        ]

    def elements(self, vector: ir.Value | None) -> list[Dimension] | None:
        """What a vector of sizes holds; None where its length is not known."""
        found = extents(vector)
        return None if found is None else [self._resolved(item) for item in found]

    def _resolved(self, extent: Extent) -> Dimension:
        if isinstance(extent, int | str):
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
    padded = [(*(1,) * (rank - len(shape)), *shape) for shape in shapes]
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
