"""What values that depend on constants only hold, computed by ONNX's reference implementation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from burnish.optimizer.contract import Array
from burnish.optimizer.regions import cut

MOST_NODES = 64
"""Nodes that a constant is computed by; more are no filter's spectrum."""

MOST_BYTES = 64 << 20
"""Bytes of the constants that are computed on."""


@dataclass
class Constants:
    """Evaluates values of the main graph of a model, each once."""

    model: ir.Model
    _known: dict[ir.Value, Array | None] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> Array | None:
        """The elements of a value; None where it depends on an input, or is much to compute."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = self._computed(value) if _is_constant(value) else None
        return self._known[value]

    def _computed(self, value: ir.Value) -> Array | None:
        tensor = value.const_value
        if tensor is not None:
            return np.array(tensor.numpy())
        node = value.producer()
        if node is None or node.graph is not self.model.graph or value.name is None:
            return None
        part = cut(self.model, [], [value.name])
        for item in part.graph.initializers.values():  # the reference follows no file
            if isinstance(item.const_value, ir.ExternalTensor):
                item.const_value = ir.tensor(np.array(item.const_value.numpy()))
        try:
            (result,) = ReferenceEvaluator(ir.to_proto(part)).run([value.name], {})
        except Exception:  # whatever the reference does not know
            return None
        return np.asarray(result)


def _is_constant(value: ir.Value) -> bool:
    """Whether a value is made of few and small constants, and of nothing else."""
    stack, nodes, size = [value], set(), 0
    while stack:
        item = stack.pop()
        if item.const_value is not None:
            size += item.const_value.nbytes
            continue
        node = item.producer()
        if node is None or node.op_type.startswith("Random") or node.op_type == "Dropout":
            return False
        if node not in nodes:
            nodes.add(node)
            stack += [operand for operand in node.inputs if operand is not None]
        if len(nodes) > MOST_NODES:
            return False
    return size <= MOST_BYTES
