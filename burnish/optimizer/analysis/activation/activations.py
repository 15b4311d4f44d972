"""The activations of a recovered graph, and which of them gate another product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, near, operands, readers, scalar

STANDARD = {
    "Celu": "celu",
    "Elu": "elu",
    "HardSwish": "hard-swish",
    "LeakyRelu": "leaky-relu",
    "Mish": "mish",
    "PRelu": "prelu",
    "Relu": "relu",
    "Selu": "selu",
    "Swish": "silu",
}
"""Kinds by standard operator, where that says all."""

FUSED = {
    "BiasGelu": "gelu-erf",
    "FastGelu": "gelu-tanh",
    "Gelu": "gelu-erf",
    "QuickGelu": "quick-gelu",
}
"""Kinds by operator of ONNX Runtime's own domain."""

GATED = {
    "gelu-erf": "geglu",
    "gelu-tanh": "geglu",
    "relu": "reglu",
    "silu": "swiglu",
    "sigmoid": "glu",
}
"""Kinds of gated units by what is applied to the gate."""

QUICK = 1.702
"""The factor in quick GELU."""

LINEAR = ("MatMul", "Gemm", "Conv", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulNBits")

LAYOUT = ("Add", "Cast", "Chunk", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose")
"""What may lie between a product and the activation of a part of it."""

FARTHEST = 8
"""Nodes between a product and what it gates."""


@dataclass(frozen=True)
class Activation:
    """An activation and, where its result multiplies another product of the same input, the gate.

    Attributes:
        kind: `gelu-erf`, `gelu-tanh`, `quick-gelu`, `silu`, `relu`, `squared-relu`, `glu` (a
            sigmoid that gates), the name of another operator in lower case, and for gated units
            `swiglu`, `geglu`, `reglu`, or `gated-` before the kind.
        node: the node whose output is the activation's.
        source: what it is a function of.
        gate: the product with what it gates, or None.
    """

    kind: str
    node: ir.Node
    source: ir.Value
    gate: ir.Node | None = None


def find_activations(model: ir.Model) -> list[Activation]:
    """The activations of the graph and its subgraphs, in order."""
    return list(_found(model))


def _found(model: ir.Model) -> Iterator[Activation]:
    inner: set[ir.Node] = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        kind, source = _kind(node)
        if not kind or source is None or node in inner:
            continue
        last = node
        if kind == "relu" and (square := _square(node)) is not None:
            kind, last = "squared-relu", square
            inner.add(square)
        gate = _gate(last, source)
        if kind == "sigmoid" and (gate is None or sigmoid_product(gate)[0]):
            continue
        if gate is not None:
            kind = GATED.get(kind, f"gated-{kind}")
        yield Activation(kind, last, source, gate)


def _kind(node: ir.Node) -> tuple[str, ir.Value | None]:
    """The kind of activation that a node ends, and its argument; an empty kind for none."""
    source = node.inputs[0] if node.inputs else None
    if node.domain == "com.microsoft":
        return FUSED.get(node.op_type, ""), source
    if node.domain != "":
        return "", None
    if node.op_type == "Gelu":
        tanh = node.attributes.get_string("approximate", "none") == "tanh"
        return "gelu-tanh" if tanh else "gelu-erf", source
    if node.op_type == "Mul":
        return sigmoid_product(node)
    return STANDARD.get(node.op_type, "sigmoid" if node.op_type == "Sigmoid" else ""), source


def sigmoid_product(node: ir.Node) -> tuple[str, ir.Value | None]:
    """`silu` or `quick-gelu` and its argument, where a `Mul` is one; an empty kind otherwise."""
    for value, other in operands(node):
        sigmoid = made_by(value, "Sigmoid")
        inner = sigmoid.inputs[0] if sigmoid is not None else None
        if inner is other:
            return "silu", other
        scaled = made_by(inner, "Mul")
        for argument, factor in operands(scaled) if scaled is not None else ():
            if argument is other and near(scalar(factor), QUICK, 1e-3):
                return "quick-gelu", other
    return "", None


def _square(node: ir.Node) -> ir.Node | None:
    """The node that squares a result."""
    value = node.outputs[0]
    for reader in readers(value):
        twice = reader.op_type == "Mul" and all(item is value for item in reader.inputs)
        power = reader.op_type == "Pow" and scalar(reader.inputs[1]) == 2.0
        if twice or power:
            return reader
    return None


def _gate(node: ir.Node, source: ir.Value) -> ir.Node | None:
    """The product of an activation with another linear function of the same input."""
    mine = _input_of(source)
    for reader in readers(node.outputs[0]) if mine is not None else ():
        if reader.op_type != "Mul" or reader.domain != "":
            continue
        for value, other in operands(reader):
            if value is node.outputs[0] and other is not value and _input_of(other) is mine:
                return reader
    return None


def _input_of(value: ir.Value | None) -> ir.Value | None:
    """The input of the product that a value is a part of."""
    for _ in range(FARTHEST):
        node = value.producer() if value is not None else None
        if node is None or not node.inputs:
            return None
        if node.op_type in LINEAR:
            return node.inputs[0]
        if node.op_type not in LAYOUT:
            return None
        value = node.inputs[0]
        if node.op_type == "Add" and _is_constant(value):
            value = node.inputs[1]
    return None


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None
