"""Which activations a model has, and whether they gate another product: GELU or GeGLU."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.activation import activations
from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, number, readers
from burnish.optimizer.analysis.costs.work import Places

NAMES = {
    "Gelu": ("GELU", "GeGLU"),
    "FastGelu": ("GELU", "GeGLU"),
    "BiasGelu": ("GELU", "GeGLU"),
    "QLinearGelu": ("GELU", "GeGLU"),
    "QuickGelu": ("QuickGELU", "gated QuickGELU"),
    "x * Sigmoid(x)": ("SiLU", "SwiGLU"),
    "Relu": ("ReLU", "ReGLU"),
}
"""What a form is called alone, and where it gates."""

QUICK = 1.702
"""The factor of the Sigmoid that stands for a GELU."""

SHARE = 0.1
"""Least share of the layers' activations that is worth a word."""


def activation_names(flow: Flow, places: Places) -> list[str]:
    """The activations inside of layers, the commonest first."""
    found: Counter[str] = Counter()
    for anchor in activations(flow):
        if places.layer_of(anchor.node):
            found[_name(flow, anchor)] += 1
    least = SHARE * sum(found.values())
    return [name for name, count in found.most_common() if count >= least]


def _name(flow: Flow, anchor: Anchor) -> str:
    alone, gate = NAMES.get(anchor.form, (anchor.form, f"gated {anchor.form}"))
    if alone == "SiLU" and _is_quick(anchor.node):
        alone, gate = NAMES["QuickGelu"]
    result = _result(anchor)
    return gate if any(_gates(flow, node, result) for node, _ in readers(result, "Mul")) else alone


def _result(anchor: Anchor) -> ir.Value:
    """What the activation gives: that of its product, where it is several nodes."""
    products = [node for node in anchor.parts if node.op_type == "Mul"]
    return (products[-1] if products else anchor.node).outputs[0]


def _gates(flow: Flow, node: ir.Node, result: ir.Value) -> bool:
    """Whether a product multiplies an activation's result with other data."""
    others = [value for value in node.inputs if value is not result]
    return len(others) == 1 and flow.is_data(others[0])


def _is_quick(sigmoid: ir.Node) -> bool:
    argument = given(sigmoid, 0)
    maker = argument.producer() if argument is not None else None
    if maker is None or maker.op_type != "Mul":
        return False
    factors = [number(value) for value in maker.inputs]
    return any(factor is not None and abs(factor - QUICK) < 1e-3 for factor in factors)
