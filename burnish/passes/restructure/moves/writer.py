"""A move as the nodes that make it: a Reshape, a Gather of rows or a Transpose, and a Reshape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.movement import Slabs, identity, rows_of, strides, width
from burnish.optimizer.analysis.movement.places import Places
from burnish.optimizer.constants import Constants

GATHERS, TRANSPOSES = "gathers", "transposes"
"""Forms: rows are gathered always, or only where no transpose does it."""


class Writer:
    """Writes moves into one graph; nodes are the caller's to insert."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._constants = Constants()

    def move(
        self, source: ir.Value, inner: Slabs, places: Places, outer: Slabs, form: str
    ) -> list[ir.Node]:
        """The nodes that make a value of some sizes from a source; none where it is that already.

        Args:
            source: what is moved.
            inner: the source as slabs.
            places: of elements.
            outer: the result as slabs.
            form: one of the two above.
        """
        sizes = outer.sizes()
        if identity(places, inner.count):
            return [] if sizes == inner.sizes() else [self._reshape(source, sizes)]
        length = width(places, inner.count)
        rows = rows_of(places, length)
        axes = strides(rows) if form == TRANSPOSES else None
        if axes is not None:
            return self._transpose(source, inner, axes, length, sizes)
        lead = [-1] if inner.open else []
        flat = [*lead, inner.count // length, length]
        indices = self._constants.of(self._graph, "places", rows.astype(np.int64))
        nodes = [] if inner.sizes() == flat else [self._reshape(source, flat)]
        source = nodes[-1].outputs[0] if nodes else source
        nodes.append(ir.node("Gather", [source, indices], {"axis": len(lead)}))
        return self._shaped(nodes, [*lead, len(rows), length], sizes)

    def _transpose(
        self,
        source: ir.Value,
        inner: Slabs,
        axes: list[tuple[int, int]],
        length: int,
        sizes: Sequence[int],
    ) -> list[ir.Node]:
        lead = [-1] if inner.open else []
        order = sorted(range(len(axes)), key=lambda axis: -axes[axis][1])
        last = [length] if length > 1 else []
        split = [*lead, *(axes[axis][0] for axis in order), *last]
        turned = [*lead, *(size for size, _ in axes), *last]
        first = len(lead)
        permutation = [*range(first), *(first + order.index(axis) for axis in range(len(axes)))]
        permutation += [len(permutation)] * len(last)
        nodes = [] if inner.sizes() == split else [self._reshape(source, split)]
        source = nodes[-1].outputs[0] if nodes else source
        nodes.append(ir.node("Transpose", [source], {"perm": permutation}))
        return self._shaped(nodes, turned, sizes)

    def _shaped(
        self, nodes: list[ir.Node], sizes: Sequence[int], wanted: Sequence[int]
    ) -> list[ir.Node]:
        """The nodes with what they give in the sizes that are wanted."""
        if list(sizes) == list(wanted):
            return nodes
        return [*nodes, self._reshape(nodes[-1].outputs[0], wanted)]

    def _reshape(self, source: ir.Value, sizes: Sequence[int]) -> ir.Node:
        target = self._constants.of(self._graph, "sizes", np.array(sizes, np.int64))
        return ir.node("Reshape", [source, target])
