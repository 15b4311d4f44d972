"""What the values of a model are made of, found in one pass over its nodes and one back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from burnish.optimizer.analysis.sizes import ONE, Sizes, axes_of

OPERANDS: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "Gemm": (0, 1), "FusedMatMul": (0, 1), "FusedGemm": (0, 1),
    "MatMulInteger": (0, 1), "MatMulIntegerToFloat": (0, 1), "DynamicQuantizeMatMul": (0, 1),
    "MatMulNBits": (0, 1), "MatMulBnb4": (0, 1), "QLinearMatMul": (0, 3), "QGemm": (0, 3),
    "Einsum": (0, 1),
}  # fmt: skip
"""Matrix products: the inputs that are multiplied with each other."""

THROUGH: dict[str, tuple[int, ...]] = {
    "Cast": (0,), "Identity": (0,), "Dropout": (0,), "Reshape": (0,), "Transpose": (0,),
    "Flatten": (0,), "Squeeze": (0,), "Unsqueeze": (0,), "Expand": (0,), "Tile": (0,),
    "Slice": (0,), "Split": (0,), "Pad": (0,), "Trilu": (0,), "Gather": (0,), "GatherND": (0,),
    "GatherElements": (0,), "ScatterND": (0, 2), "ScatterElements": (0, 2), "Where": (1, 2),
    "Tanh": (0,), "Clip": (0,), "Neg": (0,), "QuantizeLinear": (0,), "DequantizeLinear": (0,),
    "DynamicQuantizeLinear": (0,), "Add": (), "Sub": (), "Mul": (), "Div": (), "Sum": (),
    "Max": (), "Min": (), "Concat": (),
}  # fmt: skip
"""Operators between a product and its softmax, or a softmax and its product: the inputs that they
hand on; () for all of them."""

SIZES = ("Shape", "Size")
"""Operators that tell of the sizes of a value and nothing of what it holds."""

RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial",
)  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """A place that no spelling of what it belongs to can do without.

    Attributes:
        kind: `attention`, `normalization`, `activation`, `rotary` or `linear`.
        node: the operator that the kind is recognized by (the softmax of an attention).
        form: what the recovered language has for it.
        found: whether it is in that form.
        parts: other nodes of it, by which a pass may call it.
    """

    kind: str
    node: ir.Node
    form: str
    found: bool = False
    parts: tuple[ir.Node, ...] = ()

    @property
    def is_region(self) -> bool:
        """Whether its form is several plain operators, since no standard one says it."""
        return self.found and self.form.endswith("plain operators")


class Flow:
    """Which values hold data, come from a product of two activations, or go into one.

    Attributes:
        nodes: those that an output needs; those of subgraphs before the one that holds them.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self.nodes: list[ir.Node] = []
        self._data: set[ir.Value] = set()
        self._scores: set[ir.Value] = set()
        self._weights: set[ir.Value] = set()
        self._outside: dict[ir.Value, ir.Value] = {}
        self._forward(model.graph)
        self.nodes = _needed(self.nodes)
        for node in reversed(self.nodes):
            self._weights.update(value for value in node.outputs if self._leads_to_product(value))

    @cached_property
    def sizes(self) -> Sizes:
        """The shapes of the model's values; worked out where something asks for one."""
        return Sizes.of(self._model)

    def is_data(self, value: ir.Value | None) -> bool:
        """Whether a value depends on what the inputs hold, and not on their sizes alone."""
        return value in self._data

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is there and is computed from constants and sizes alone."""
        return value is not None and value not in self._data

    def from_product(self, value: ir.Value | None) -> bool:
        """Whether a value comes from a product of two activations, with no other in between.

        One factor may be constant where it stands on the left: a learned query, whose scores are
        as many as the other factor has positions.
        """
        return value in self._scores

    def products_behind(self, value: ir.Value | None) -> list[ir.Node]:
        """The products that a value comes from, the nearest first."""
        found: dict[ir.Node, None] = {}
        near = [value] if value is not None else []
        for current in near:  # grows while it is walked
            node = current.producer()
            if node is None or current not in self._scores:
                continue
            if self.gives_scores(node):
                found[node] = None
            else:
                near += [item for item in handed_on(node) if item not in near]
        return list(found)

    def into_product(self, value: ir.Value | None) -> bool:
        """Whether a value goes into a product with an activation."""
        return value in self._weights

    def _forward(self, graph: ir.Graph) -> None:
        self._data.update(value for value in graph.inputs if value.const_value is None)
        for node in graph:
            bodies = subgraphs(node)
            for body in bodies:
                self._forward(body)
                self._link(node, body)
            self.nodes.append(node)
            changing = bool(bodies) or node.op_type in RANDOM
            if changing or (node.op_type not in SIZES and any(map(self.is_data, node.inputs))):
                self._data.update(node.outputs)
            if self._is_score(node):
                self._scores.update(node.outputs)

    def _link(self, node: ir.Node, body: ir.Graph) -> None:
        """Tie what a subgraph gives to what its node gives; the last ones belong together."""
        for inner, outer in zip(reversed(body.outputs), reversed(node.outputs), strict=False):
            self._outside[inner] = outer
            if inner in self._scores:
                self._scores.add(outer)

    def _is_score(self, node: ir.Node) -> bool:
        if node.op_type in OPERANDS or node.op_type == "ReduceSum":
            return self.gives_scores(node)
        return any(value in self._scores for value in handed_on(node))

    def gives_scores(self, node: ir.Node) -> bool:
        """Whether a node multiplies two activations, or a learned query and one."""
        if node.op_type == "ReduceSum":
            return self._sums_products(node)
        return self.is_product(node) or self.has_learned_query(node)

    def has_learned_query(self, node: ir.Node) -> bool:
        """Whether a node multiplies a constant with the positions of an activation.

        A linear layer, or a router, multiplies positions with a constant: its last axis is the
        constant's. Here it is the activation's.
        """
        values = operands(node)
        if len(values) != 2 or not self.is_constant(values[0]) or not self.is_data(values[1]):
            return False
        if node.op_type != "Einsum":
            return node.op_type in ("MatMul", "FusedMatMul")
        terms, _, result = _equation(node).partition("->")
        first, _, second = terms.partition(",")
        return bool(result) and result[-1] in second and result[-1] not in first

    def _is_summed(self, node: ir.Node) -> bool:
        """Whether what a node multiplies is added up, which makes a matrix product of it."""
        sums = readers(node.outputs[0], "ReduceSum") if node.op_type == "Mul" else ()
        return any(self._sums_products(reader) for reader, _ in sums)

    def _sums_products(self, node: ir.Node) -> bool:
        """Whether a sum adds up what two activations give multiplied, each with each."""
        product = given(node, 0)
        maker = product.producer() if product is not None else None
        if maker is None or maker.op_type != "Mul" or maker.domain != "":
            return False
        first, second = maker.inputs
        if first is second or not (self.is_data(first) and self.is_data(second)):
            return False
        shapes = [self.sizes.shape(value) for value in (first, second, product)]
        sides = [shape for shape in shapes if shape is not None]
        axes = axes_of(node, self.sizes)
        if len(sides) < 3 or axes is None or len(axes) != 1 or len({*map(len, sides)}) > 1:
            return False
        summed = axes[0] % len(sides[0])
        both = all(side[summed] != ONE for side in sides)
        return both and any(
            (one == ONE) != (other == ONE)
            for axis, (one, other) in enumerate(zip(sides[0], sides[1], strict=True))
            if axis != summed
        )

    def is_product(self, node: ir.Node) -> bool:
        """Whether a node multiplies two activations as matrices."""
        values = operands(node)
        return len(values) > 1 and all(map(self.is_data, values))

    def _leads_to_product(self, value: ir.Value) -> bool:
        if (outer := self._outside.get(value)) is not None and outer in self._weights:
            return True
        for node, index in value.uses():
            if node.op_type in OPERANDS:
                into = index in OPERANDS[node.op_type] and self.is_product(node)
            else:
                into = self._is_summed(node) or (
                    _hands_on(node, index) and any(out in self._weights for out in node.outputs)
                )
            if into:
                return True
        return False


def _equation(node: ir.Node) -> str:
    return node.attributes.get_string("equation", "").replace(" ", "")


def _needed(nodes: list[ir.Node]) -> list[ir.Node]:
    """The nodes that an output needs: what a pass replaced may still lie around."""
    needed: set[ir.Node] = set()
    for node in reversed(nodes):
        for value in node.outputs:
            if value.is_graph_output() or any(use.node in needed for use in value.uses()):
                needed.add(node)
    return [node for node in nodes if node in needed]


def operands(node: ir.Node) -> list[ir.Value]:
    """The operands of a matrix product; empty for other nodes."""
    places = OPERANDS.get(node.op_type, ())
    values = [node.inputs[place] for place in places if place < len(node.inputs)]
    return [value for value in values if value is not None]


def handed_on(node: ir.Node) -> list[ir.Value]:
    """The inputs that an operator of `THROUGH` hands on; empty for other nodes."""
    values = enumerate(node.inputs)
    return [value for place, value in values if value is not None and _hands_on(node, place)]


def _hands_on(node: ir.Node, place: int) -> bool:
    places = THROUGH.get(node.op_type)
    return places is not None and (not places or place in places)


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds."""
    bodies: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.GRAPH:
            bodies.append(attribute.as_graph())
        elif attribute.type is ir.AttributeType.GRAPHS:
            bodies.extend(attribute.as_graphs())
    return bodies


def given(node: ir.Node, place: int) -> ir.Value | None:
    """An input of a node; None where it is left out."""
    return node.inputs[place] if 0 <= place < len(node.inputs) else None


def source(value: ir.Value | None, operators: Iterable[str]) -> ir.Value | None:
    """The value before nodes of these operators, which change nothing that matters here."""
    allowed = tuple(operators)
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in allowed or not node.inputs:
            return value
        value = node.inputs[0]
    return None


def readers(value: ir.Value, *operators: str) -> Iterator[tuple[ir.Node, int]]:
    """Nodes of these operators (of any, where none is given) that read a value, and where."""
    for node, index in value.uses():
        if not operators or node.op_type in operators:
            yield node, index


def number(value: ir.Value | None) -> float | None:
    """A constant of one element, cast or not."""
    value = source(value, ("Cast", "Identity"))
    try:
        tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    except (ValueError, TypeError):  # a Constant that holds none
        return None
    if tensor is None or tensor.size != 1 or tensor.dtype is ir.DataType.STRING:
        return None
    return float(tensor.numpy().reshape(()))
