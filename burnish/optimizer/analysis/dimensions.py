"""Sizes of every value as products of the model's symbolic dimensions.

ONNX's own inference gives each result of shape arithmetic a fresh name, so that it cannot tell that
two values have the same length. Here that arithmetic is followed with symbols: the `-1` of a
Reshape becomes the size that it must be.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.monomials import (
    Extent,
    Sizes,
    broadcast,
    divided,
    number,
    parsed,
    product,
    symbol,
)
from burnish.optimizer.analysis.size_elements import elements
from burnish.optimizer.analysis.size_rules import RULES

LONGEST = 16
"""Elements of the largest vector of sizes that is followed."""

AS_FIRST = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "CumSum", "Dropout", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LayerNormalization",
    "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Not", "RMSNormalization", "Reciprocal",
    "Relu", "RotaryEmbedding", "Round", "Selu", "Sigmoid", "Sign", "SimplifiedLayerNormalization",
    "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu", "Trilu",
    "InstanceNormalization", "BatchNormalization", "GroupNormalization", "ScatterND",
    "ScatterElements",
}  # fmt: skip
"""Operators whose result has the shape of their first operand."""

BROADCAST = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mean", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
"""Operators on corresponding elements of all operands."""


class Dimensions:
    """Shapes of the values of a graph, subgraphs left out.

    A size that nothing is known of is a symbol of its own, so that equal always means equal.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._shapes: dict[ir.Value, Sizes] = {}
        self._elements: dict[ir.Value, Sizes] = {}
        self._named: set[str] = set()
        self._count = 0
        for value in graph.inputs:
            for size in value.shape or ():
                if not isinstance(size, int) and size.value is not None:
                    self._named.add(str(size.value))
        for value in graph.inputs:
            self._declare(value, None)
        for node in graph:
            self._follow(node)

    def of(self, value: ir.Value | None) -> Sizes | None:
        """The shape of a value; None where not even its rank is known."""
        if value is None:
            return None
        if value.const_value is not None:
            return tuple((int(size), ()) for size in value.const_value.shape.numpy())
        return self._shapes.get(value)

    def note(self, value: ir.Value, shape: Sizes) -> None:
        """Let the shape of a new value be known."""
        self._shapes[value] = shape

    def elements(self, value: ir.Value | None) -> Sizes | None:
        """What a short vector of integers, or one integer, holds; None where that is not known."""
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            return self._elements.get(value)
        if tensor.size > LONGEST or tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
            return None
        return tuple((int(item), ()) for item in tensor.numpy().reshape(-1))

    def _follow(self, node: ir.Node) -> None:
        if node.domain == "":
            held = elements(node, self)
            if held is not None and len(held) <= LONGEST:
                self._elements[node.outputs[0]] = held
            shapes = self._results(node)
        else:
            shapes = []
        for index, value in enumerate(node.outputs):
            self._declare(value, shapes[index] if index < len(shapes) else None)

    def _declare(self, value: ir.Value, found: Sequence[Extent | None] | None) -> None:
        """Settle the shape of a value: what was found, else what is declared, else new symbols."""
        declared = list(value.shape) if value.shape is not None else None
        if found is None and declared is None:
            return
        found = list(found) if found is not None else [None] * len(declared or ())
        if declared is None or len(declared) != len(found):
            declared = [ir.SymbolicDim(None)] * len(found)
        self._shapes[value] = tuple(
            mine if mine is not None else self._declared(theirs)
            for mine, theirs in zip(found, declared, strict=True)
        )

    def _declared(self, size: object) -> Extent:
        if isinstance(size, int):
            return (size, ())
        name = getattr(size, "value", None)
        known = parsed(str(name), self._named) if name is not None else None
        return known if known is not None else self._unknown()

    def _unknown(self) -> Extent:
        self._count += 1
        return symbol(f"?{self._count}")

    def _results(self, node: ir.Node) -> list[Sequence[Extent | None] | None]:
        """Shapes of a node's outputs: None is what is not known."""
        shapes = [self.of(value) for value in node.inputs]
        kind = node.op_type
        if kind in AS_FIRST or kind in ("Split", "Attention", "GatherElements"):
            return _alike(node, shapes)
        if kind in BROADCAST:
            known = [shape for shape in shapes if shape is not None]
            return [broadcast(known) if len(known) == len(shapes) else None]
        rule = RULES.get(kind)
        return [rule(node, shapes, self)] if rule is not None and shapes else []


def _alike(node: ir.Node, shapes: list[Sizes | None]) -> list[Sequence[Extent | None] | None]:
    """Shapes that are those of an operand but for an axis."""
    kind, first = node.op_type, shapes[0]
    if first is None:
        return []
    if kind == "Split":
        axis = node.attributes.get_int("axis", 0) % len(first)
        sizes = ir.convenience.get_const_tensor(node.inputs[1]) if len(node.inputs) > 1 else None  # type: ignore[arg-type]
        parts: list[Extent | None] = [None] * len(node.outputs)
        whole = number(first[axis])
        if sizes is not None:
            parts = [(int(size), ()) for size in sizes.numpy()]
        elif whole is not None and whole % len(parts) == 0:
            parts = [(whole // len(parts), ())] * len(parts)
        return [(*first[:axis], part, *first[axis + 1 :]) for part in parts]
    if kind == "Attention":
        value = shapes[2]
        heads = node.attributes.get_int("q_num_heads", 0)
        groups = node.attributes.get_int("kv_num_heads", 0)
        if value is None:
            return []
        width: Extent | None = value[-1]
        if len(first) == 3:
            width = divided(product((value[-1], (heads, ()))), (groups, ())) if groups else None
        return [(*first[:-1], width)]
    return [shapes[1]] if kind == "GatherElements" else [first]
