"""Hidden channels cut on both sides, where that is measured faster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, shape_of
from burnish.optimizer.computed import Part, selected
from burnish.optimizer.contract import Array, Choice, Context
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import prune, take_over
from burnish.optimizer.samples import LARGEST_WORK, rows_of
from burnish.passes.restructure.sparse.channels import Hidden, bias_of
from burnish.passes.restructure.sparse.sample import sparse_layers

STEP = 16
"""Widths are cut to multiples of this: ONNX Runtime's kernels take columns by 16."""

WHOLE, CUT = "whole", "cut"


@dataclass(frozen=True)
class Cut:
    """Channels of a hidden value that stay.

    Attributes:
        kept: ascending indices; a multiple of `STEP`.
        constant: what the channels that go give in each layer behind, [n] of each.
    """

    hidden: Hidden
    kept: Array
    constant: tuple[Array, ...]

    @property
    def width(self) -> int:
        """Channels before."""
        return self.hidden.downs[0].k


def cut_of(hidden: Hidden) -> Cut | None:
    """What is left of a hidden value; None where too little would go."""
    gone = hidden.constants | hidden.unneeded
    width = len(gone)
    left = max(STEP, -(-int((~gone).sum()) // STEP) * STEP)
    if left >= width:
        return None
    # Some stay after all, to fill up the last step.
    gone[np.flatnonzero(gone)[: left - int((~gone).sum())]] = False
    values = np.where(gone & hidden.constants, hidden.values, 0).astype(np.float32)
    constant = tuple(
        values @ _part(member).array(ir.DataType.FLOAT)
        if values.any()
        else np.zeros(member.n, np.float32)
        for member in hidden.downs
    )
    return Cut(hidden, np.flatnonzero(~gone), constant)


def choose(cut: Cut, context: Context) -> Choice:
    """Whether narrower layers are faster; those of the same sizes share one measurement."""
    hidden = cut.hidden
    rows, gates = rows_of(hidden.ups[0].activation, context), len(hidden.ups)
    k, n = hidden.ups[0].k, sum(member.n for member in hidden.downs)
    rows = max(1, min(rows, LARGEST_WORK // (cut.width * (k * gates + n))))
    forms: dict[str, Callable[[], onnx.ModelProto]] = {
        name: functools.partial(sparse_layers, rows, (k, width, n), gates)
        for name, width in ((WHOLE, cut.width), (CUT, len(cut.kept)))
    }
    key = f"hidden rows={rows} k={k} n={n} layers={gates} {cut.width} to {len(cut.kept)}"
    return context.choose(key, forms, CUT)


def apply(cut: Cut) -> None:
    """Write the layers anew, with the channels that stay."""
    hidden, kept = cut.hidden, cut.kept
    graph = hidden.downs[0].graph
    made: dict[ir.Value, ir.Value] = {}
    for member in hidden.ups:
        weight = selected(_part(member), None, kept)
        made[member.output] = _layer(member, member.activation, weight, bias_of(member)[kept])
    for node in hidden.nodes:
        inputs = [_narrow(value, made, cut, graph) for value in node.inputs]
        copy = ir.node(node.op_type, inputs, dict(node.attributes), name=node.name)
        graph.insert_before(node, copy)
        old, new = node.outputs[0], copy.outputs[0]
        new.type, new.shape = old.type, _narrower(old, len(kept))
        made[old] = new
    for member, constant in zip(hidden.downs, cut.constant, strict=True):
        weight = selected(_part(member), kept, None)
        source = made[member.activation]
        result = _layer(member, source, weight, bias_of(member) + constant)
        result.type, result.shape = member.output.type, member.output.shape
        take_over(member.output, result)
    prune(value for member in hidden.downs for value in [member.activation])


def _part(member: Product) -> Part:
    tensor = member.weight.const_value
    return Part(tensor, shape_of(member.weight), member.transposed, member.alpha)


def _layer(member: Product, source: ir.Value, weight: ir.LazyTensor, bias: Array) -> ir.Value:
    """A layer in front of the old one; without an `Add` where there is nothing to add."""
    graph, anchor = member.graph, member.nodes[-1]
    stored = add_initializer(graph, f"{member.weight.name}_cut", weight)
    nodes = [ir.node("MatMul", [source, stored], name=member.nodes[0].name)]
    if bias.any():
        name = member.bias.name if member.bias is not None else member.weight.name
        added = add_initializer(graph, f"{name}_cut", ir.Tensor(bias.astype(np.float32)))
        # A Gemm, or a product without a bias, has a name for one node only.
        named = anchor.name if len(member.nodes) > 1 else None
        nodes.append(ir.node("Add", [nodes[0].outputs[0], added], name=named))
    for node in nodes:
        graph.insert_before(anchor, node)
        value = node.outputs[0]
        value.type = member.output.type
        value.shape = _narrower(member.output, int(weight.shape.numpy()[1]))
    return nodes[-1].outputs[0]


def _narrow(
    value: ir.Value | None, made: dict[ir.Value, ir.Value], cut: Cut, graph: ir.Graph
) -> ir.Value | None:
    """An operand with the channels that stay."""
    if value is None or value in made:
        return value and made[value]
    tensor = value.const_value
    assert tensor is not None
    if tensor.size == 1:
        return value
    return add_initializer(
        graph, f"{value.name}_cut", ir.Tensor(np.ascontiguousarray(tensor.numpy()[cut.kept]))
    )


def _narrower(value: ir.Value, width: int) -> ir.Shape | None:
    """The shape of a value with another last axis."""
    return None if value.shape is None else ir.Shape([*value.shape[:-1], width])
