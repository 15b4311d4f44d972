"""Sizes that are asked of activations, taken from the inputs where they are the same.

Exporters ask the nearest value how long the sequence is, and build masks from that. The stages of
a plan would then send each other masks, or numbers, that follow from the inputs alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.sizes import Size, Sizes
from burnish.optimizer.model import add_initializer
from burnish.optimizer.naming import Names
from burnish.optimizer.pruning import prune


def ask_inputs(model: ir.Model) -> int:
    """Let `Shape` read an input in place of an activation, where that is proven equal; how often.

    Every element has to be a number or the size of some input's axis (see `analysis.sizes`).
    """
    sizes, asker = Sizes.of(model), _Asker(model)
    for value in model.graph.inputs:
        for axis, size in enumerate(sizes.shape(value) or ()):
            asker.known.setdefault(size, (value, axis))
    count = 0
    for node in [item for item in model.graph if item.op_type == "Shape" and item.domain == ""]:
        source, result = node.inputs[0], node.outputs[0]
        elements = sizes.elements(result)
        if source is None or source.is_graph_input() or elements is None:
            continue
        if result.is_graph_output() or not all(asker.knows(size) for size in elements):
            continue
        ir.convenience.replace_all_uses_with(result, asker.ask(elements))
        prune([result])
        count += 1
    model.graph.sort()
    return count


class _Asker:
    """Makes vectors of sizes out of the inputs of a graph, each once.

    Attributes:
        known: an input and its axis by size.
    """

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._names = model.graph, Names(model.graph)
        self.known: dict[Size, tuple[ir.Value, int]] = {}
        self._vectors: dict[tuple[Size, ...], ir.Value] = {}

    def knows(self, size: Size) -> bool:
        return size.number is not None or size in self.known

    def ask(self, elements: tuple[Size, ...]) -> ir.Value:
        """A vector of the sizes, in INT64."""
        if elements not in self._vectors:
            numbers = [size.number for size in elements]
            if None not in numbers:
                found = self._constant(numbers)
            elif len(elements) == 1:
                found = self._axis(*self.known[elements[0]])
            else:
                parts = [self.ask((size,)) for size in elements]
                found = self._node("Concat", parts, len(elements), axis=0)
            self._vectors[elements] = found
        return self._vectors[elements]

    def _axis(self, value: ir.Value, axis: int) -> ir.Value:
        rank = len(value.shape or ())
        shape = self._node("Shape", [value], rank)
        return self._node("Gather", [shape, self._constant([axis])], 1, axis=0)

    def _constant(self, numbers: list[int | None]) -> ir.Value:
        tensor = ir.tensor(np.array(numbers, np.int64))
        return add_initializer(self._graph, self._names.free("sizes"), tensor)

    def _node(
        self, operator: str, inputs: list[ir.Value], count: int, **attributes: int
    ) -> ir.Value:
        node = ir.node(operator, inputs, attributes or None)
        (made,) = node.outputs
        made.name = node.name = self._names.free(f"sizes_{operator}")
        made.type, made.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([count])
        self._graph.append(node)
        return made
