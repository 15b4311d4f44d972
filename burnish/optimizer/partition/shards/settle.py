"""A model made ready to be split: constants are initializers, sizes that are fixed are numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from burnish.optimizer.analysis.sizes import Sizes, numbers
from burnish.optimizer.constants import Constants
from burnish.optimizer.partition.shards.lifting import lift

INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def settled(model: ir.Model, known: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """A copy in which what is computed from fixed sizes alone is a constant.

    Exporters compute where a merged projection is cut (`Shape(x)[-1] / 2`). A rank's sizes differ,
    and the cut has to be known to be changed.

    Args:
        model: annotated; it stays as it is.
        known: shapes of its values by name, at any sizes.
    """
    copy = model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    sizes, constants = Sizes.of(copy), Constants()
    for node in copy.graph:
        for value in node.outputs:
            shape, found = known.get(value.name or ""), numbers(sizes.contents.get(value))
            told = shape is not None and found is not None and len(shape) < 2
            if not told or value.dtype not in INTEGERS or value.is_graph_output():
                continue
            assert shape is not None and found is not None and value.dtype is not None
            if math.prod(shape) != len(found):
                continue
            array = np.array(found, value.dtype.numpy()).reshape(shape)
            constant = constants.of(copy.graph, f"{value.name}.fixed", array)
            for reader, place in tuple(value.uses()):
                reader.replace_input_with(place, constant)
    lift(copy.graph, constants)
    RemoveUnusedNodesPass()(copy)
    return copy
