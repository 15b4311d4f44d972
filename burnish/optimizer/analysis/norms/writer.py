"""Normalizations written as the one operator of ONNX that says the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import replace
from burnish.optimizer.analysis.norms.moments import sizes_of
from burnish.optimizer.analysis.norms.normalizations import Normalization, normalizations
from burnish.optimizer.analysis.norms.roots import root_of
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.shapes import describe
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Outcome, Refusal
from burnish.optimizer.model import add_initializer

SINCE = {"LayerNormalization": 17, "RMSNormalization": 23}
"""The operator set that each operator came with."""

PARTS = ("Sqrt", "Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare")
"""Operators of normalizations in pieces, whose values must be known by type and shape."""


def write_normalizations(model: ir.Model, operator: str) -> Outcome:
    """Write every normalization of one kind as `operator`, in place."""
    writer, done = _Writer(operator), 0
    refusals: list[Refusal] = []
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    parts = [node for node in nodes if node.op_type in PARTS]
    describe(model, (value for node in parts for value in (*node.inputs[:1], *node.outputs)))
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
    """Writes one operator."""

    def __init__(self, operator: str) -> None:
        self._operator = operator
        self._constants = Constants()

    def write(self, found: Normalization) -> None:
        producer, kind = found.output.producer(), found.kind
        assert producer is not None and isinstance(producer.graph, ir.Graph) and kind is not None
        graph = producer.graph
        # Of unknown sizes there is no parameter to fit, and one that is broadcast says the same.
        sizes = sizes_of(found.moment.base, -found.axis) or (1,)
        if found.scale is not None:
            scale = _fitted(graph, found.scale, sizes)
        else:
            scale = self._constants.number(graph, "ones", 1.0, kind, *sizes)
        inputs = [found.source, scale]
        if found.bias is not None:
            inputs.append(_fitted(graph, found.bias, sizes))
        attributes: dict[str, int | float] = {"axis": found.axis, "epsilon": found.epsilon}
        replace(found.output, ir.node(self._operator, inputs, attributes))


def _fitted(graph: ir.Graph, value: ir.Value, sizes: tuple[int, ...]) -> ir.Value:
    """A parameter in the shape of the normalized axes."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tuple(tensor.shape) == sizes:
        return value
    array = tensor.numpy()
    array = np.full(sizes, array.reshape(())) if array.size == 1 else array.reshape(sizes)
    return add_initializer(graph, f"{value.name}_fitted", ir.tensor(array, dtype=tensor.dtype))
