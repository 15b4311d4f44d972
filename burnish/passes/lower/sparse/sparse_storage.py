"""Weights with many zeros are stored by the other elements, and expanded when a model is loaded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.computed import lazy
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import take_over
from burnish.passes.lower.sparse.encoding import (
    LENGTH,
    MASK,
    Encoding,
    count_nonzero,
    parts_of,
    smallest,
)

SHARE = 0.9
"""Of its bytes a weight may keep at most: below that the nodes are not worth their while."""

LEAST = 2048
"""Bytes that a weight saves at least; its nodes take some 600."""

OPSET = 11
"""The operator set from which there are `CumSum`, `ScatterElements` and `BitShift`."""

KINDS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8)
"""Types of weights that the operators take from that operator set on."""

READERS = {"MatMul", "Gemm", "MatMulInteger", "Conv", "ConvInteger"}
"""Operators that read what is stored so: the sign of a zero means nothing to a sum of products."""

BITS = 8
"""Elements whose bits are in one byte."""


@dataclass(frozen=True)
class SparseStorage(Pass):
    """Store weights with many zeros by their other elements.

    It runs where the user asks for it (`--sparse-storage`): it is for the size of the file, and a
    model takes longer to load. What runs is the same, since ONNX Runtime folds the expansion when
    it loads the model; without its optimizations the expansion is part of each run.

    Before:
        A weight `w` of float32, float16 or int8.
    After:
        The smaller of two forms. Values and the steps between them, in 8 or 16 bits: `w =
        Reshape(ScatterElements(zeros, CumSum(Cast(steps)), values), shape)`. Values behind a zero,
        and a bit for each element: `w = Reshape(Gather(values, CumSum(bits) * bits), shape)`.
    Refuses when:
        More than nine tenths of the bytes, or all but 2 KB of them, would stay. The weight is an
        output, is read by others than products and convolutions, or has 2^31 elements or more. The
        operator set is older than 11.
    Numerics:
        Exact; a minus zero, as a mask makes of a negative number, becomes zero.
    """

    name = "sparse-storage"
    phase = Phase.LOWER
    promise = EXACT
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        graph = model.graph
        if model.opset_imports.get("", OPSET) < OPSET:
            return Outcome(detail=f"it needs operator set {OPSET}")
        refusals: list[Refusal] = []
        forms: Counter[str] = Counter()
        before = after = 0
        expansion = _Expansion(graph)
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or tensor.dtype not in KINDS or tensor.nbytes <= LEAST:
                continue
            found = smallest(tensor) if _may_save(tensor) else None
            if found is None:
                continue
            if reason := _why_not(value, found):
                refusals.append(Refusal(value.name or "", reason))
                continue
            expansion.write(value, found.form)
            forms[found.form] += 1
            before, after = before + tensor.nbytes, after + found.nbytes
        if not forms:
            return Outcome(0, tuple(refusals), detail="no weight has zeros enough")
        named = ", ".join(f"{count} by {form}" for form, count in forms.items())
        detail = (
            f"{named}: {before / 1e6:.1f} MB became {after / 1e6:.1f}, expanded when it is loaded"
        )
        return Outcome(sum(forms.values()), tuple(refusals), detail=detail)


def _may_save(tensor: ir.TensorProtocol) -> bool:
    """Whether there are zeros enough to look at where they are: the values alone take less."""
    return count_nonzero(tensor) * tensor.dtype.itemsize <= SHARE * tensor.nbytes


def _why_not(value: ir.Value, found: Encoding) -> str:
    """Why a weight is stored as it is; empty where it is not."""
    tensor = value.const_value
    assert tensor is not None
    if value.is_graph_output():
        return "it is an output"
    others = {node.op_type for node in _readers(value)} - READERS
    if others:
        return f"{sorted(others)[0]} reads it, which is no product"
    if tensor.size >= LENGTH:
        return f"it has {LENGTH} elements or more"
    if found.nbytes > SHARE * tensor.nbytes or found.nbytes > tensor.nbytes - LEAST:
        share = found.count / tensor.size
        return f"{found.nbytes / tensor.nbytes:.0%} of it would stay ({share:.0%} are not zero)"
    return ""


def _readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a weight, those behind a transpose in its place."""
    found = []
    for node, _ in value.uses():
        found += _readers(node.outputs[0]) if node.op_type == "Transpose" else [node]
    return found


class _Expansion:
    """Writes the nodes that expand weights, before all others of the graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._first = next(iter(graph), None)
        self._constants = Constants()

    def write(self, value: ir.Value, form: str) -> None:
        """Let the expansion of what is stored stand for a weight."""
        tensor = value.const_value
        assert tensor is not None
        stored = {
            name: self._stored(value, name, compute)
            for name, compute in parts_of(tensor, form).items()
        }
        if form == MASK:
            flat = self._unmasked(stored["values"], stored["mask"], tensor.size)
        else:
            flat = self._scattered(stored["values"], stored["steps"], tensor)
        shape = self._whole("shape", tensor.shape.numpy())
        result = self._node("Reshape", flat, shape)
        result.type, result.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        take_over(value, result)

    def _stored(self, value: ir.Value, name: str, compute: object) -> ir.Value:
        assert callable(compute)
        array = compute()
        kind = ir.DataType.from_numpy(array.dtype)
        return add_initializer(
            self._graph, f"{value.name}_{name}", lazy(array.shape, kind, compute)
        )

    def _scattered(self, values: ir.Value, steps: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        """Zeros with the values at the sums of the steps."""
        zero = ir.AttrTensor("value", ir.Tensor(np.zeros(1, tensor.dtype.numpy())))
        whole = self._node("Cast", steps, to=ir.DataType.INT32.value)
        positions = self._node("CumSum", whole, self._whole("first_axis", 0))
        zeros = self._node("ConstantOfShape", self._whole("elements", [tensor.size]), value=zero)
        return self._node("ScatterElements", zeros, positions, values, axis=0)

    def _unmasked(self, values: ir.Value, mask: ir.Value, size: int) -> ir.Value:
        """The next of the values where a bit is 1, else the zero before them."""
        places = self._constants.of(self._graph, "places_of_bits", np.arange(BITS, dtype=np.uint8))
        two = self._constants.of(self._graph, "two", np.array(2, np.uint8))
        rows = self._node("Reshape", mask, self._whole("bytes", [-1, 1]))
        moved = self._node("BitShift", rows, places, direction="RIGHT")
        bits = self._node("Cast", self._node("Mod", moved, two), to=ir.DataType.INT32.value)
        flat = self._node("Reshape", bits, self._whole("row", [-1]))
        if size % BITS:
            ends = [self._whole("start", [0]), self._whole("elements", [size])]
            flat = self._node("Slice", flat, *ends)
        counted = self._node("CumSum", flat, self._whole("first_axis", 0))
        return self._node("Gather", values, self._node("Mul", counted, flat), axis=0)

    def _whole(self, name: str, numbers: object) -> ir.Value:
        return self._constants.of(self._graph, name, np.array(numbers, np.int64))

    def _node(self, operator: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        node = ir.node(operator, inputs, attributes)  # type: ignore[arg-type]
        assert self._first is not None
        self._graph.insert_before(self._first, node)
        return node.outputs[0]
