"""Activations with what stands before them: the bias, and the product that it is added to."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.activation.activations import sigmoid_product
from burnish.optimizer.analysis.matching import made_by, operands, optional, readers, scalar
from burnish.optimizer.analysis.products import QUANTIZED, shape_of
from burnish.optimizer.analysis.shapes.concrete import is_fixed

KINDS = ("gelu-erf", "gelu-tanh", "quick-gelu")

INTEGERS = QUANTIZED | {"MatMulIntegerToFloat", "ConvInteger"}
"""Products that ONNX Runtime adds a bias to in their own kernel."""


@dataclass(frozen=True)
class Place:
    """An activation.

    Attributes:
        node: gives the activation's result.
        kind: one of `KINDS`.
        source: what it is a function of.
        adder: the `Add` of a constant vector that gives `source`; None where there is none.
        sum: the other operand of `adder`.
        bias: the vector, [n].
        product: the `MatMul` with a constant matrix that gives `sum`, read by nothing else.
    """

    node: ir.Node
    kind: str
    source: ir.Value
    adder: ir.Node | None = None
    sum: ir.Value | None = None
    bias: ir.Value | None = None
    product: ir.Node | None = None

    @property
    def graph(self) -> ir.Graph:
        """The graph or subgraph that holds it."""
        assert isinstance(self.node.graph, ir.Graph)
        return self.node.graph

    @property
    def is_alone(self) -> bool:
        """Whether nothing but the activation needs what it is applied to."""
        found = readers(self.source)
        if self.kind == "quick-gelu":
            found = [node for node in found if node is not self.scaling]
        return found == [self.node] and not self.source.is_graph_output()

    @property
    def scaling(self) -> ir.Node | None:
        """The `Mul` inside of a quick GELU's sigmoid."""
        for value, other in operands(self.node):
            sigmoid = made_by(value, "Sigmoid")
            if sigmoid is not None and other is self.source:
                return made_by(sigmoid.inputs[0], "Mul")
        return None

    @property
    def factor(self) -> float:
        """What a quick GELU multiplies with before its sigmoid."""
        assert self.scaling is not None
        numbers = [scalar(value) for value in self.scaling.inputs]
        return next(number for number in numbers if number is not None)

    @property
    def is_packed(self) -> bool:
        """Whether ONNX Runtime adds the bias in the product: in a `Gemm`, where sizes are fixed."""
        if self.product is None:
            return False
        left = self.product.inputs[0]
        assert left is not None
        return is_fixed(left) or (left.shape is not None and len(left.shape) == 2)


def place_of(node: ir.Node) -> Place | str:
    """The place that a node ends, or why it is none; empty where it is no activation of a kind."""
    kind, source = kind_of(node)
    if source is None:
        return ""
    if source.dtype is not ir.DataType.FLOAT:
        return f"it computes in {source.dtype.name if source.dtype else 'an unknown type'}"
    if _is_chosen(source):
        return ""
    adder = made_by(source, "Add")
    if adder is None or adder.graph is not node.graph:
        return Place(node, kind, source)
    pair = next((pair for pair in operands(adder) if _is_vector(pair[0])), None)
    if pair is None:
        return Place(node, kind, source)
    bias, total = pair
    if _of_integers(total):
        # The bias goes into the product's kernel when the model is loaded.
        return Place(node, kind, source) if kind != "gelu-erf" else "its bias is in an int8 product"
    return Place(node, kind, source, adder, total, bias, _product(total, adder, bias))


def _is_chosen(source: ir.Value) -> bool:
    """Whether a bias is added in a form that was chosen before."""
    flat = made_by(source, "Reshape")
    gemm = made_by(flat.inputs[0], "Gemm") if flat is not None else None
    return made_by(source, "Sum") is not None or gemm is not None


def kind_of(node: ir.Node) -> tuple[str, ir.Value | None]:
    """The kind of activation that a node ends, and its argument; an empty kind for none."""
    if node.domain != "":
        return "", None
    if node.op_type == "Gelu":
        tanh = node.attributes.get_string("approximate", "none") == "tanh"
        return "gelu-tanh" if tanh else "gelu-erf", node.inputs[0]
    kind, source = sigmoid_product(node) if node.op_type == "Mul" else ("", None)
    return (kind, source) if kind in KINDS else ("", None)


def _is_vector(value: ir.Value) -> bool:
    constant = value.const_value is not None and value.producer() is None
    return constant and not value.is_graph_input() and len(shape_of(value)) == 1


def _product(total: ir.Value, adder: ir.Node, bias: ir.Value) -> ir.Node | None:
    node = made_by(total, "MatMul")
    weight = optional(node, 1) if node is not None else None
    if node is None or weight is None or weight.const_value is None or weight.producer():
        return None
    alone = readers(total) == [adder] and not total.is_graph_output()
    sizes = shape_of(weight)
    fits = len(sizes) == 2 and shape_of(bias) == (sizes[1],) and node.graph is adder.graph
    return node if alone and fits else None


def _of_integers(value: ir.Value) -> bool:
    """Whether a value is a product in int8, scaled."""
    stack, steps = [value], 0
    while stack and steps < 8:
        steps += 1
        node = stack.pop().producer()
        if node is None:
            continue
        if node.op_type in INTEGERS:
            return True
        if node.op_type in ("Cast", "Mul", "DequantizeLinear"):
            stack += [item for item in node.inputs if item is not None]
    return False
