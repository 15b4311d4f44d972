"""Linear layers: products of an activation with a constant matrix, in every spelling.

The normal form is `MatMul(x, weight[k, n])`, followed by `Add(..., bias[n])` where there is a bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.products import label, shape_of
from burnish.optimizer.contract import Refusal

PRODUCTS = ("MatMul", "Gemm", "Einsum", "Conv")


@dataclass(frozen=True)
class Layer:
    """One linear layer: `output = activation @ weight + bias`.

    The matrix [k, n] is `weight`, its axes put in the order `order`, its first `inner` axes then
    being one and the others one, times `scale`.

    Attributes:
        node: the product.
        activation: what is multiplied; its last `inner` axes are summed over.
        weight: initializer.
        order: of the weight's axes.
        inner: axes that are summed over.
        scale: factor of the product.
        bias: initializer of n elements, or None.
        output: what the product, with its bias, gives.
        adder: the node that adds the bias, where that is not the product itself.
        turned: whether the features of activation and output lie along the axis before the last.
        shared: whether the weight is read by others in another form, so that it has to stay.
        problem: why it cannot be written in the normal form; empty where it can.
    """

    node: ir.Node
    activation: ir.Value
    weight: ir.Value
    order: tuple[int, ...]
    inner: int
    bias: ir.Value | None
    output: ir.Value
    adder: ir.Node | None = None
    scale: float = 1.0
    turned: bool = False
    shared: bool = False
    problem: str = ""

    @property
    def outer(self) -> tuple[int, ...]:
        """Sizes of the output's features; several where the product gives several axes of them."""
        shape = shape_of(self.weight)
        return tuple(shape[axis] for axis in self.order[self.inner :] if axis < len(shape))

    @property
    def is_normal(self) -> bool:
        """Whether it is in the normal form, or as near to it as a shared weight allows."""
        return self.is_plain and (self.bias is None or self._adds_normally())

    @property
    def is_plain(self) -> bool:
        """Whether the product, without its bias, is in the normal form."""
        direct = self.node.inputs[1] is self.weight and self.order == (0, 1)
        return self.node.op_type == "MatMul" and not self.turned and (direct or self.shared)

    def _adds_normally(self) -> bool:
        if self.adder is None or self.bias is None:
            return False
        return self.adder.inputs[1] is self.bias and len(shape_of(self.bias)) == 1


def find_layers(model: ir.Model) -> list[Layer]:
    """The linear layers of the graph and its subgraphs, in order."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return [layer for node in nodes if (layer := match(node)) is not None]


def account(model: ir.Model) -> tuple[int, int, list[Refusal]]:
    """How many linear layers there are, how many are in the normal form, and why not the others."""
    layers = find_layers(model)
    missed = [layer for layer in layers if not layer.is_normal]
    reasons = [
        Refusal(label(layer.node), layer.problem or f"it is written as {layer.node.op_type}")
        for layer in missed
    ]
    return len(layers), len(layers) - len(missed), reasons


def match(node: ir.Node) -> Layer | None:
    """The linear layer whose product a node is."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    return rule(node) if rule is not None else None


def constant(value: ir.Value | None) -> ir.Value | None:
    """A value that is an initializer with data."""
    given = value is not None and value.const_value is not None and value.producer() is None
    return value if given else None


def _matrix(value: ir.Value | None) -> tuple[ir.Value | None, bool]:
    """The initializer of two axes that a value is, or is the transpose of."""
    found, transposed = constant(value), False
    maker = value.producer() if value is not None else None
    turns = maker is not None and maker.op_type == "Transpose" and maker.domain == ""
    if maker is not None and turns and maker.attributes.get_ints("perm", (1, 0)) == (1, 0):
        found, transposed = constant(maker.inputs[0]), True
    return (found if found is not None and len(shape_of(found)) == 2 else None), transposed


def _is_shared(weight: ir.Value) -> bool:
    """Whether a weight that is stored transposed is read as it is, too (as tied embeddings are)."""
    return weight.is_graph_output() or not all(_turns(use.node, use.idx) for use in weight.uses())


def _turns(node: ir.Node, index: int) -> bool:
    """Whether a reader uses nothing but the transpose, as a matrix of products."""
    if node.op_type == "Gemm":
        return index == 1 and bool(node.attributes.get_int("transB", 0))
    return node.op_type == "Transpose" and all(
        reader.node.op_type in ("MatMul", "Gemm") for reader in node.outputs[0].uses()
    )


def _match_matmul(node: ir.Node) -> Layer | None:
    left, right = node.inputs
    weight, transposed = _matrix(right)
    if left is None or right is None:
        return None
    if weight is not None and constant(left) is None:
        bias, adder = _bias_after(node, shape_of(weight)[0 if transposed else 1], -1)
        output = adder.outputs[0] if adder is not None else node.outputs[0]
        order, shared = ((1, 0), _is_shared(weight)) if transposed else ((0, 1), False)
        return Layer(node, left, weight, order, 1, bias, output, adder, shared=shared)
    weight = constant(left)
    if weight is None or constant(right) is not None or len(shape_of(weight)) != 2:
        return None
    bias, adder = _bias_after(node, shape_of(weight)[0], -2)
    output = adder.outputs[0] if adder is not None else node.outputs[0]
    return Layer(node, right, weight, (1, 0), 1, bias, output, adder, turned=True)


def _match_gemm(node: ir.Node) -> Layer | None:
    left, weight = node.inputs[0], constant(node.inputs[1])
    transposed = node.attributes.get_int("transB", 0) == 1
    if weight is None:
        weight, turned = _matrix(node.inputs[1])
        transposed ^= turned
    if left is None or weight is None or constant(left) is not None:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    scale, problem = node.attributes.get_float("alpha", 1.0), ""
    width = shape_of(weight)[0 if transposed else 1]
    if node.attributes.get_int("transA", 0):
        problem = "the activation is transposed"
    elif bias is not None and not _is_bias(bias, width, -1):
        problem = "the bias is not a constant of one element per feature"
    elif node.attributes.get_float("beta", 1.0) != 1.0 and bias is not None:
        problem = "the bias is scaled"
    order, shared = ((1, 0), _is_shared(weight)) if transposed else ((0, 1), False)
    return Layer(
        *(node, left, weight, order, 1, bias, node.outputs[0], None, scale),
        shared=shared,
        problem=problem,
    )


def _match_conv(node: ir.Node) -> Layer | None:
    """A convolution along one axis that looks at one place."""
    value, weight = node.inputs[0], constant(node.inputs[1])
    if value is None or weight is None or len(shape_of(weight)) != 3 or shape_of(weight)[2] != 1:
        return None
    strides, pads = node.attributes.get_ints("strides", ()), node.attributes.get_ints("pads", ())
    if node.attributes.get_int("group", 1) != 1 or any(pads) or set(strides) - {1}:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    constant_bias = bias is None or constant(bias) is not None
    problem = "" if constant_bias else "the bias is computed"
    return Layer(
        *(node, value, weight, (1, 2, 0), 2, bias, node.outputs[0]), turned=True, problem=problem
    )


def _match_einsum(node: ir.Node) -> Layer | None:
    """`...ab,abcd->...cd`, the axes of the weight in any order."""
    if len(node.inputs) != 2:
        return None
    equation = node.attributes.get_string("equation", "").replace(" ", "").replace("...", ".")
    terms, _, result = equation.partition("->")
    first, _, second = terms.partition(",")
    value, other = node.inputs
    if constant(value) is not None:
        value, other, first, second = other, value, second, first
    weight = constant(other)
    if weight is None or value is None or constant(value) is not None:
        return None
    inner = "".join(letter for letter in first if letter in second and letter not in result)
    outer = "".join(letter for letter in second if letter not in first)
    lead = first[: len(first) - len(inner)]
    linear = (
        bool(inner and outer)
        and first == lead + inner
        and result == lead + outer
        and sorted(second) == sorted(inner + outer)
        and len(set(second)) == len(second)
        and len(set(first)) == len(first)
        and "." not in second
    )
    if not linear:
        return None
    order = tuple(second.index(letter) for letter in inner + outer)
    shared = order != tuple(range(len(order))) and len(weight.uses()) > 1
    problem = "its weight is read in another form, too" if shared else ""
    return Layer(node, value, weight, order, len(inner), None, node.outputs[0], problem=problem)


RULES: dict[str, Callable[[ir.Node], Layer | None]] = {
    "MatMul": _match_matmul,
    "Gemm": _match_gemm,
    "Conv": _match_conv,
    "Einsum": _match_einsum,
}


def _bias_after(node: ir.Node, width: int, axis: int) -> tuple[ir.Value | None, ir.Node | None]:
    """The constant that the only reader of a product adds to its features, and that reader."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None, None
    adder = uses[0].node
    if adder.op_type != "Add" or adder.domain != "" or adder.graph is not node.graph:
        return None, None
    bias = adder.inputs[1 - uses[0].idx]
    return (bias, adder) if bias is not None and _is_bias(bias, width, axis) else (None, None)


def _is_bias(value: ir.Value, width: int, axis: int) -> bool:
    """Whether a constant has one element per feature, with the features along `axis`."""
    if constant(value) is None:
        return False
    shape = shape_of(value)
    others = [size for place, size in enumerate(shape) if place != len(shape) + axis]
    return len(shape) >= -axis and shape[axis] == width and all(size == 1 for size in others)
