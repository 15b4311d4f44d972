"""What the values of a model are made of, found in one pass over its nodes and one back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import scalar

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


class Flow:
    """Which values hold data, come from a product of two activations, or go into one.

    Attributes:
        nodes: those that an output needs; those of subgraphs before the one that holds them.
    """

    def __init__(self, model: ir.Model) -> None:
        self.nodes: list[ir.Node] = []
        self._data: set[ir.Value] = set()
        self._scores: set[ir.Value] = set()
        self._weights: set[ir.Value] = set()
        self._outside: dict[ir.Value, ir.Value] = {}
        self._forward(model.graph)
        self.nodes = _needed(self.nodes)
        for node in reversed(self.nodes):
            self._weights.update(value for value in node.outputs if self._leads_to_product(value))

    def is_data(self, value: ir.Value | None) -> bool:
        """Whether a value depends on what the inputs hold, and not on their sizes alone."""
        return value in self._data

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is there and is computed from constants and sizes alone."""
        return value is not None and value not in self._data

    def from_product(self, value: ir.Value | None) -> bool:
        """Whether a value comes from a product of two activations, with no other in between."""
        return value in self._scores

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
        if node.op_type in OPERANDS:
            return self.is_product(node)
        return any(value in self._scores for value in handed_on(node))

    def is_product(self, node: ir.Node) -> bool:
        """Whether a node multiplies two activations as matrices."""
        values = operands(node)
        return len(values) > 1 and all(map(self.is_data, values))

    def _leads_to_product(self, value: ir.Value) -> bool:
        if (outer := self._outside.get(value)) is not None and outer in self._weights:
            return True
        for node, index in value.uses():
            if node.op_type in OPERANDS:
                if index in OPERANDS[node.op_type] and self.is_product(node):
                    return True
            elif _hands_on(node, index) and any(out in self._weights for out in node.outputs):
                return True
        return False


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
    return scalar(source(value, ("Cast", "Identity")))
