"""Normalizations written as the one operator of ONNX that says the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import replace
from burnish.optimizer.analysis.moments import sizes_of
from burnish.optimizer.analysis.normalizations import Normalization, normalizations
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.roots import root_of
from burnish.optimizer.analysis.shapes import describe
from burnish.optimizer.contract import Outcome, Refusal
from burnish.optimizer.model import add_initializer

SINCE = {"LayerNormalization": 17, "RMSNormalization": 23}
"""The operator set that each operator came with."""

LENGTHS = ("Sqrt", "Pow", "ReduceL2")
"""Operators without one of which there is no normalization in pieces."""


def write_normalizations(model: ir.Model, operator: str) -> Outcome:
    """Write every normalization of one kind as `operator`, in place."""
    writer, done = _Writer(operator), 0
    refusals: list[Refusal] = []
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    if any(node.op_type in LENGTHS for node in nodes):
        describe(model)
    old = model.opset_imports.get("", 0) < SINCE[operator]
    for node in nodes:
        root = root_of(node) if node.graph is not None else None
        if root is None or root.moment.centered != (operator == "LayerNormalization"):
            continue
        found: list[Normalization] | str = normalizations(root)
        if old and not isinstance(found, str):
            found = f"{operator} came with operator set {SINCE[operator]}, and this one is older"
        if isinstance(found, str):
            refusals.append(Refusal(label(node), found))
            continue
        for item in found:
            writer.write(item)
        done += len(found)
    return Outcome(done, tuple(refusals), detail=f"{done} normalizations")


class _Writer:
    """Writes one operator; scales of ones are made once."""

    def __init__(self, operator: str) -> None:
        self._operator = operator
        self._ones: dict[tuple[ir.Graph, tuple[int, ...], ir.DataType], ir.Value] = {}

    def write(self, found: Normalization) -> None:
        producer, kind = found.output.producer(), found.output.dtype
        assert producer is not None and isinstance(producer.graph, ir.Graph) and kind is not None
        graph = producer.graph
        # Of unknown sizes there is no parameter to fit, and one that is broadcast says the same.
        sizes = sizes_of(found.moment.base, -found.axis) or (1,)
        inputs = [found.source, self._scale(graph, found.scale, sizes, kind)]
        if found.bias is not None:
            inputs.append(_fitted(graph, found.bias, sizes))
        attributes: dict[str, int | float] = {"axis": found.axis, "epsilon": found.epsilon}
        replace(found.output, ir.node(self._operator, inputs, attributes))

    def _scale(
        self, graph: ir.Graph, scale: ir.Value | None, sizes: tuple[int, ...], kind: ir.DataType
    ) -> ir.Value:
        if scale is not None:
            return _fitted(graph, scale, sizes)
        key = graph, sizes, kind
        if key not in self._ones:
            ones = ir.tensor(np.ones(sizes, kind.numpy()), dtype=kind)
            self._ones[key] = add_initializer(graph, "ones", ones)
        return self._ones[key]


def _fitted(graph: ir.Graph, value: ir.Value, sizes: tuple[int, ...]) -> ir.Value:
    """A parameter in the shape of the normalized axes."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tuple(tensor.shape) == sizes:
        return value
    array = tensor.numpy()
    array = np.full(sizes, array.reshape(())) if array.size == 1 else array.reshape(sizes)
    return add_initializer(graph, f"{value.name}_fitted", ir.tensor(array, dtype=tensor.dtype))
