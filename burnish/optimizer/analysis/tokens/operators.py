"""Operators by what they do to the tokens of their operands."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.tokens.layout import Layout

ELEMENTWISE = {
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish",
    "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
}  # fmt: skip
"""Operators that work element by element, operands broadcast."""

NORMS = {"LayerNormalization", "RMSNormalization"}
"""Normalizations from an axis on to the last one."""

SOFTMAXES = {"Softmax", "LogSoftmax"}

REDUCTIONS = {
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
}  # fmt: skip

CHOICES = {"ArgMax", "ArgMin"}

VIEWS = {"Reshape", "Unsqueeze", "Squeeze", "Flatten"}
"""Operators that write the same elements with other axes."""


def axes_of(node: ir.Node, layout: Layout, rank: int) -> list[int] | None:
    """The axes that an operator works along, counted from the first; None where not known."""
    if node.op_type in NORMS:
        return list(range(node.attributes.get_int("axis", -1) % rank, rank))
    if node.op_type in SOFTMAXES:
        first = node.attributes.get_int("axis", -1 if layout.opset >= 13 else 1) % rank
        return [first] if layout.opset >= 13 else list(range(first, rank))
    if node.op_type in (*CHOICES, "Split"):
        return [node.attributes.get_int("axis", 0) % rank]
    if node.op_type == "Concat":
        return [node.attributes["axis"].as_int() % rank]
    if node.op_type == "Slice":
        return _sliced(node, layout, rank)
    if node.op_type in REDUCTIONS:
        return _reduced(node, layout, rank)
    return None


def _sliced(node: ir.Node, layout: Layout, rank: int) -> list[int] | None:
    starts = layout.elements(node.inputs[1])
    if starts is None:
        return None
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return list(range(starts[0].size))
    axes = layout.constant(node.inputs[3])
    return [int(axis) % rank for axis in axes.reshape(-1)] if axes is not None else None


def _reduced(node: ir.Node, layout: Layout, rank: int) -> list[int] | None:
    given = list(node.attributes.get_ints("axes", ()))
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = layout.constant(node.inputs[1])
        if axes is None:
            return None
        given = [int(axis) for axis in axes.reshape(-1)]
    idle = node.attributes.get_int("noop_with_empty_axes", 0) == 1
    if idle and not given:
        return []
    return [axis % rank for axis in given] if given else list(range(rank))
