"""Channels between two layers that no answer depends on, or that are constant.

    hidden = f(x @ up + b)
    result = hidden @ down + c

with any elementwise f, also of several layers: `act(x @ gate) * (x @ up)`.

A channel of `hidden` whose row of `down` is zero is not needed; one whose columns in all layers
before are zero is `f(b)`, whatever `x` is, and its share of the result is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.restructure.sparse.structure import dead

ELEMENTWISE = {
    "Add", "Celu", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Mish", "Mul", "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt",
    "Sub", "Swish", "Tanh",
}  # fmt: skip
"""Operators that compute each channel by itself."""


@dataclass(frozen=True)
class Hidden:
    """What lies between layers.

    Attributes:
        ups: the layers before; nothing else reads what they give.
        nodes: elementwise ones between, in order.
        downs: the layers behind, which all read one value.
        constants: channels that no input changes, [hidden].
        values: of those, [hidden]; 0 elsewhere.
        unneeded: channels whose rows in `downs` are zero, [hidden].
    """

    ups: tuple[Product, ...]
    nodes: tuple[ir.Node, ...]
    downs: tuple[Product, ...]
    constants: Array
    values: Array
    unneeded: Array


def hidden_before(
    downs: Sequence[Product], products: dict[ir.Value, Product], opset: int
) -> Hidden | None:
    """What lies before layers that read one value, where channels can be cut there.

    Args:
        downs: the layers.
        products: all products by what they give.
        opset: the operator set that the elementwise nodes are of.
    """
    source = downs[0].activation
    readers = {member.nodes[0] for member in downs}
    ups: list[Product] = []
    nodes: list[ir.Node] = []
    stack, seen = [source], {source}
    while stack:
        value = stack.pop()
        if value in products:
            ups.append(products[value])
            continue
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in ELEMENTWISE:
            return None
        nodes.append(node)
        for operand in node.inputs:
            if operand is None or operand in seen:
                continue
            if operand.const_value is None:
                stack.append(operand)
                seen.add(operand)
            elif not _by_channel(operand, downs[0].k):
                return None
    inside = readers.union(nodes)
    closed = all(
        not value.is_graph_output() and all(node in inside for node, _ in value.uses())
        for value in seen
    )
    wide = all(member.n == downs[0].k for member in ups)
    if not ups or not closed or not wide or not all(map(_own, (*ups, *downs))):
        return None
    order = {node: index for index, node in enumerate(downs[0].graph)}
    if any(node not in order for node in nodes):  # of another graph
        return None
    nodes.sort(key=order.__getitem__)
    constants, values = _constant(ups, nodes, source, opset)
    unneeded = np.logical_and.reduce([dead(_matrix(member), 1) for member in downs])
    return Hidden(tuple(ups), tuple(nodes), tuple(downs), constants, values, unneeded)


def _by_channel(operand: ir.Value, width: int) -> bool:
    """Whether a constant is a number, or a vector over channels."""
    assert operand.const_value is not None
    shape = operand.const_value.shape.numpy()
    return int(np.prod(shape)) == 1 or (len(shape) == 1 and shape[0] == width)


def _own(member: Product) -> bool:
    """Whether a layer has its weight for itself."""
    return len(member.weight.uses()) == 1 and not member.weight.is_graph_output()


def _matrix(member: Product) -> Array:
    """The weight as [k, n]."""
    assert member.weight.const_value is not None
    array = member.weight.const_value.numpy()
    return array.T if member.transposed else array


def bias_of(member: Product) -> Array:
    """The bias [n] as it is added; zeros where there is none."""
    if member.bias is None:
        return np.zeros(member.n, np.float32)
    assert member.bias.const_value is not None
    return member.bias.const_value.numpy().reshape(-1) * np.float32(member.beta)


def _constant(
    ups: Sequence[Product], nodes: Sequence[ir.Node], source: ir.Value, opset: int
) -> tuple[Array, Array]:
    """Which channels of a value no input changes, and their values."""
    known: dict[ir.Value, tuple[Array, Array]] = {}
    if not any(dead(_matrix(member), 0).any() for member in ups):
        none = np.zeros(ups[0].n)
        return none.astype(bool), none.astype(np.float32)
    for member in ups:
        zero = dead(_matrix(member), 0)
        known[member.output] = zero, np.where(zero, bias_of(member), np.float32(0))
    for node in nodes:
        operands = [_of(known, value, member.n) for value in node.inputs if value is not None]
        constant = np.logical_and.reduce([fixed for fixed, _ in operands])
        # Evaluated for all channels; what it gives for others is not used.
        result = _evaluated(node, [values for _, values in operands], opset)
        if node.op_type == "Mul":
            zeros = [fixed & (values == 0) for fixed, values in operands]
            constant |= np.logical_or.reduce(zeros)
        known[node.outputs[0]] = constant, np.where(constant, result, np.float32(0))
    constant, values = known[source]
    usable = constant & np.isfinite(values)
    return usable, np.where(usable, values, np.float32(0))


def _evaluated(node: ir.Node, operands: Sequence[Array], opset: int) -> Array:
    """What a node gives for vectors, by ONNX's reference."""
    message = ir.serde.serialize_node(node)
    names = [value.name or "" for value in node.inputs if value is not None]
    port = helper.make_tensor_value_info
    width = len(operands[0])
    graph = helper.make_graph(
        [message],
        "channels",
        [port(name, TensorProto.FLOAT, [width]) for name in dict.fromkeys(names)],
        [port(message.output[0], TensorProto.FLOAT, [width])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        (given,) = ReferenceEvaluator(model).run(None, dict(zip(names, operands, strict=True)))
    return np.asarray(given, np.float32)


def _of(
    known: dict[ir.Value, tuple[Array, Array]], value: ir.Value, width: int
) -> tuple[Array, Array]:
    if value in known:
        return known[value]
    assert value.const_value is not None
    array = np.broadcast_to(value.const_value.numpy().reshape(-1), (width,))
    return np.ones(width, bool), array
