"""Products and lookups in int8, written with ONNX's own operators.

    by tensor:  DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul(scales) -> Add(bias)
    static:     QuantizeLinear -> MatMulInteger -> Cast -> Mul(scales) -> Add(bias)
    by token:   see `inputs` -> MatMulInteger -> Cast -> Mul(scales) -> Mul(scale) -> Add(bias)
    pairs:      QuantizeLinear -> DequantizeLinear -> MatMul(DequantizeLinear(int8)) -> Add(bias)
    lookup:     Gather(int8 table) -> Cast -> Mul(Gather(scales))

ONNX Runtime fuses each of the first two into one kernel at load, bias included, where the pattern
is written exactly so.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, shape_of
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.error_feedback import Feedback
from burnish.passes.compress.int8 import weights
from burnish.passes.compress.int8.inputs import Input, Inputs
from burnish.passes.compress.int8.ranges import Range
from burnish.passes.compress.splice import before, replace


@dataclass
class Rewriter:
    """Rewrites places of one model; what several places share is made once.

    Attributes:
        model: changed in place.
        saturating: see `weights.operand`.
        memo: see `contract.Context`.
    """

    model: ir.Model
    saturating: bool = False
    memo: dict[Hashable, Any] = field(default_factory=dict)
    _operands: dict[tuple[object, ...], tuple[ir.Value, weights.FloatArray]] = field(
        default_factory=dict
    )
    _units: dict[tuple[ir.Value, float], ir.Value] = field(default_factory=dict)
    _floats: dict[tuple[ir.Value, object], ir.Value] = field(default_factory=dict)
    _tables: dict[ir.Value, tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inputs = Inputs(self.model)

    def product(
        self,
        members: list[Product],
        factors: npt.NDArray[np.float32] | None = None,
        feedback: Feedback | None = None,
        *,
        by_token: bool = False,
        fixed: Range | None = None,
    ) -> None:
        """Compute one product, or several of the same activation as one, in int8.

        The members are in the order of the graph: what replaces them stands before the first.
        `factors` [k] and `feedback` are those of `weights.operand`. With `by_token` each token has
        a range of its own; one that is `fixed` is that of all.
        """
        anchor = members[0].nodes[0]
        # Read from the node: an earlier rewrite may have replaced the value found with the product.
        activation = anchor.inputs[0]
        assert activation is not None
        given = self._inputs.get(activation, anchor, by_token=by_token, fixed=fixed)
        operand = self._operand(members, anchor, factors, feedback)
        whole = self._chain(anchor, members, given, operand)
        results = [whole] if len(members) == 1 else self._split(anchor, members, whole)
        for member, result in zip(members, results, strict=True):
            replace(member.nodes, member.output, result)

    def pair(
        self,
        member: Product,
        fixed: Range,
        factors: npt.NDArray[np.float32] | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        """Compute a product in float, of operands that come from int8.

        Runtimes that know such pairs make a product of integers of it. `factors` and `feedback`
        are those of `weights.operand`.
        """
        anchor = member.nodes[0]
        activation = anchor.inputs[0]
        assert activation is not None
        left = self._inputs.pair(activation, anchor, fixed)
        operand, scales = self._operand([member], anchor, factors, feedback)
        key = (operand, anchor.graph)
        if key not in self._floats:
            home, name = member.weight.graph, f"{member.weight.name}_scales"
            assert isinstance(home, ir.Graph)
            given = [operand, _constant(home, name, scales)]
            self._floats[key] = before(anchor, "DequantizeLinear", given, axis=1)
        result = before(anchor, "MatMul", [left, self._floats[key]])
        if member.bias is not None:
            result = before(anchor, "Add", [result, self._bias([member])])
        replace(member.nodes, member.output, result)

    def lookup(self, node: ir.Node) -> None:
        """Read the table of a `Gather` from int8 rows."""
        source, indices = node.inputs
        assert source is not None
        rows, scales = self._table(source)
        taken = before(node, "Gather", [rows, indices], axis=0)
        factor = before(node, "Gather", [scales, indices], axis=0)
        number = before(node, "Cast", [taken], to=ir.DataType.FLOAT.value)
        replace((node,), node.outputs[0], before(node, "Mul", [number, factor]))

    def _chain(
        self,
        anchor: ir.Node,
        members: list[Product],
        given: Input,
        weight: tuple[ir.Value, weights.FloatArray],
    ) -> ir.Value:
        operand, scales = weight
        key = (operand, given.unit)
        if key not in self._units:
            home, name = members[0].weight.graph, f"{members[0].weight.name}_scales"
            assert isinstance(home, ir.Graph)
            self._units[key] = _constant(home, name, scales * np.float32(given.unit))
        units = self._units[key]
        total = before(anchor, "MatMulInteger", [given.values, operand, given.zero])
        number = before(anchor, "Cast", [total], to=ir.DataType.FLOAT.value)
        if given.by_token:
            result = before(anchor, "Mul", [number, units])
            result = before(anchor, "Mul", [result, given.scale])
        else:
            factor = before(anchor, "Mul", [given.scale, units])
            result = before(anchor, "Mul", [number, factor])
        if given.offset:
            extra = np.float32(given.offset) * scales * _column_sums(operand)
            result = before(anchor, "Add", [result, self._bias(members, -extra)])
        elif any(member.bias is not None for member in members):
            result = before(anchor, "Add", [result, self._bias(members)])
        return result

    def _split(self, anchor: ir.Node, members: list[Product], whole: ir.Value) -> list[ir.Value]:
        sizes = np.array([member.n for member in members], np.int64)
        lengths = _constant(self.model.graph, "split_sizes", sizes)
        node = ir.node("Split", [whole, lengths], {"axis": -1}, num_outputs=len(members))
        assert isinstance(anchor.graph, ir.Graph)
        anchor.graph.insert_before(anchor, node)
        return list(node.outputs)

    def _operand(
        self,
        members: list[Product],
        anchor: ir.Node,
        factors: npt.NDArray[np.float32] | None,
        feedback: Feedback | None,
    ) -> tuple[ir.Value, weights.FloatArray]:
        """The weights [k, n] in int8, and the scale of each column [n]."""
        # By value, not by name: the branches of an If may call different weights alike.
        first = members[0].weight
        key = tuple((member.weight, member.transposed, member.alpha) for member in members)
        if key in self._operands:
            return self._operands[key]
        home = first.graph
        assert isinstance(home, ir.Graph)
        if len(members) == 1 and first in self._tables and members[0].transposed:
            table, scales = self._tables[first]
            assert scales.const_value is not None
            # Stored once for the lookup and the product; ONNX Runtime transposes it at load.
            operand = before(anchor, "Transpose", [table], perm=(1, 0))
            return operand, scales.const_value.numpy().reshape(-1) * np.float32(members[0].alpha)
        tensors = [(_tensor(member.weight), member.transposed) for member in members]
        made = self._rounded(tensors, factors, feedback)
        alphas = np.concatenate([np.full(m.n, m.alpha, np.float32) for m in members])
        value = add_initializer(home, f"{first.name}_int8", made.values)
        self._operands[key] = (value, made.scales * alphas)
        return self._operands[key]

    def _rounded(
        self,
        tensors: list[tuple[ir.TensorProtocol, bool]],
        factors: npt.NDArray[np.float32] | None,
        feedback: Feedback | None,
    ) -> weights.Quantized:
        """What `weights.operand` gives, remembered where it took long."""
        if feedback is None:
            return weights.operand(tensors, factors, saturating=self.saturating)
        spread = None if factors is None else factors.tobytes()
        key = ("int8", *((id(tensor), turned) for tensor, turned in tensors), spread)
        if key not in self.memo:
            # The tensors stay alive with what was made of them, so that no other has their ids.
            made = weights.operand(tensors, factors, feedback, saturating=self.saturating)
            self.memo[key] = tensors, made
        found: weights.Quantized = self.memo[key][1]
        return found

    def _table(self, source: ir.Value) -> tuple[ir.Value, ir.Value]:
        if source not in self._tables:
            home = source.graph
            assert isinstance(home, ir.Graph)
            # Rows that are only looked up are added to nothing.
            multiplied = any(use.node.op_type != "Gather" for use in source.uses())
            made = weights.table(_tensor(source), saturating=self.saturating and multiplied)
            column = made.scales.reshape(-1, 1)
            rows, scales = (
                add_initializer(home, f"{source.name}_int8", made.values),
                _constant(home, f"{source.name}_scale", column),
            )
            self._tables[source] = (rows, scales)
        return self._tables[source]

    def _bias(self, members: list[Product], extra: weights.FloatArray | None = None) -> ir.Value:
        """The biases side by side, zeros where a product has none, and something more."""
        if extra is None and len(members) == 1 and members[0].beta == 1.0:
            bias = members[0].bias
            assert bias is not None
            if len(shape_of(bias)) == 1:
                return bias
        parts = [
            np.zeros(member.n, np.float32)
            if member.bias is None
            else _tensor(member.bias).numpy().reshape(-1) * np.float32(member.beta)
            for member in members
        ]
        home = members[0].weight.graph
        assert isinstance(home, ir.Graph)
        whole = np.concatenate(parts)
        whole = whole if extra is None else whole + extra
        return _constant(home, f"{members[0].weight.name}_bias", whole.astype(np.float32))


def _column_sums(operand: ir.Value) -> weights.FloatArray:
    """Sums of the columns of a constant int8 matrix, or of the transpose of one; float32 [n]."""
    maker = operand.producer()
    stored = operand if maker is None else maker.inputs[0]
    assert stored is not None and stored.const_value is not None
    axis = 0 if maker is None else 1
    sums = stored.const_value.numpy().sum(axis=axis, dtype=np.int64)
    return np.asarray(sums, np.float32)


def _constant(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    return add_initializer(graph, name, ir.Tensor(np.ascontiguousarray(array)))


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value
