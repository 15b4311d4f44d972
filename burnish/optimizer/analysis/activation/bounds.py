"""How far below zero the result of an activation can be, whatever it is applied to."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.activation.activations import sigmoid_product

LEAST = {
    "Abs": 0.0,
    "Exp": 0.0,
    "Gelu": -0.1701,
    "HardSigmoid": 0.0,
    "HardSwish": -0.3751,
    "Mish": -0.3089,
    "Relu": 0.0,
    "Sigmoid": 0.0,
    "Softmax": 0.0,
    "Softplus": 0.0,
    "Swish": -0.2785,
}
"""Lower bounds by standard operator, rounded down; of `Gelu` in both of its forms."""

PRODUCTS = {"silu": -0.2785, "quick-gelu": -0.1640}
"""Likewise of products with a sigmoid."""

HANDED_ON = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def least(value: ir.Value) -> float | None:
    """A number that no element of the value is below; None where nothing bounds it."""
    node = value.producer()
    while node is not None and node.op_type in HANDED_ON and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Mul":
        return PRODUCTS.get(sigmoid_product(node)[0])
    if node.op_type == "Swish" and node.attributes.get_float("alpha", 1.0) != 1.0:
        return None
    return LEAST.get(node.op_type)
