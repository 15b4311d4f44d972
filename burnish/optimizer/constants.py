"""Small constants that passes write into graphs, one for equal contents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer


class Constants:
    """Makes initializers, each once for a graph: naming one costs a walk.

    One that was pruned meanwhile, since nobody read it, is made anew.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def __iter__(self) -> Iterator[ir.Value]:
        return iter(self._made.values())

    def of(
        self, graph: ir.Graph, name: str, array: Array, kind: ir.DataType | None = None
    ) -> ir.Value:
        """The array as an initializer; its first maker names it. `kind` is that of the array."""
        key = graph, array.dtype.name, array.shape, array.tobytes()
        made = self._made.get(key)
        if made is None or made.graph is not graph:
            made = add_initializer(graph, name, ir.tensor(array, dtype=kind))
            self._made[key] = made
        return made

    def number(
        self, graph: ir.Graph, name: str, number: float, kind: ir.DataType, *sizes: int
    ) -> ir.Value:
        """The number as a scalar or, with sizes, as a tensor of them."""
        return self.of(graph, name, np.full(sizes, number, kind.numpy()), kind)
