"""Roots of mean squares: where a normalization is looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, near, operands, scalar
from burnish.optimizer.analysis.norms.moments import Moment, count, mean_square_of, squares_over
from burnish.optimizer.analysis.products import label


@dataclass(frozen=True)
class Root:
    """The root of a mean square: its node, what is under it, and whether it is inverted."""

    node: ir.Node
    moment: Moment
    epsilon: float
    inverted: bool
    problem: str = ""


def root_of(node: ir.Node) -> Root | None:
    """The root that a node takes of a mean square; the anchor of a normalization."""
    found = _under_root(node)
    if found is None:
        return _scaled_length(node)
    value, inverted = found
    epsilon, problem = 0.0, ""
    moment = mean_square_of(value)
    if moment is None:
        adder = made_by(_uncast(value), "Add", "Max", "Clip")
        pair = _beside_mean_square(adder) if adder is not None else None
        if adder is None or pair is None:
            return None
        moment, number = pair[0], scalar(pair[1])
        epsilon = number or 0.0
        if adder.op_type != "Add":
            problem = f"{label(adder)} bounds the mean square instead of adding epsilon to it"
        elif number is None:
            problem = f"what {label(adder)} adds to the mean square is no constant"
    size = count(moment)
    if size is not None and near(moment.share, size) and size > 1:
        return None  # the root of a sum is a length, and dividing by it another function
    return Root(node, moment, epsilon, inverted, problem or _unlike_mean(moment, size))


def _scaled_length(node: ir.Node) -> Root | None:
    """The length of a vector divided by the root of its size, which is the root of the mean."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    for value, other in list(operands(node))[: 1 if node.op_type == "Div" else 2]:
        factor, length = scalar(other), made_by(value, "ReduceL2", "Sqrt")
        if not factor or length is None or length.inputs[0] is None:
            continue
        total = mean_square_of(length.inputs[0])
        moment = squares_over(length) if length.op_type == "ReduceL2" else total
        size = count(moment) if moment is not None else None
        if moment is None or size is None or not near(moment.share, size):
            continue
        if near(factor**2, size if node.op_type == "Div" else 1 / size):
            moment = replace(moment, share=1.0)
            return Root(node, moment, 0.0, False, _unlike_mean(moment, size))
    return None


def _under_root(node: ir.Node) -> tuple[ir.Value, bool] | None:
    """What a node takes the root of, and whether it gives the inverse of that."""
    value = node.inputs[0] if node.inputs else None
    if node.domain != "" or value is None:
        return None
    if node.op_type == "Pow":
        power = scalar(node.inputs[1])
        return (value, power < 0) if power in (0.5, -0.5) else None
    if node.op_type != "Sqrt":
        return None
    inverse = inverse_of(value.producer())
    return (inverse, True) if inverse is not None else (value, False)


def inverse_of(node: ir.Node | None) -> ir.Value | None:
    """What a node gives 1 over."""
    if node is None or node.domain != "":
        return None
    if node.op_type == "Reciprocal":
        return node.inputs[0]
    if node.op_type == "Pow":
        return node.inputs[0] if scalar(node.inputs[1]) == -1.0 else None
    return node.inputs[1] if node.op_type == "Div" and scalar(node.inputs[0]) == 1.0 else None


def _uncast(value: ir.Value) -> ir.Value:
    """The value before casts between floats, of a statistic that may be rounded."""
    while (node := made_by(value, "Identity", "Cast")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _beside_mean_square(node: ir.Node) -> tuple[Moment, ir.Value] | None:
    for value, other in operands(node):
        if (moment := mean_square_of(value)) is not None:
            return moment, other
    return None


def _unlike_mean(moment: Moment, size: int | None) -> str:
    """Why a sum of squares is no mean square over the last axes; empty where it is."""
    around = "variance" if moment.centered else "mean square"
    if not moment.axes:
        return f"the axes of the {around} are not known"
    if moment.axes != tuple(range(-len(moment.axes), 0)):
        return f"the {around} is over axes {list(moment.axes)}, which are not the last ones"
    if not moment.kept:
        return f"the {around} does not keep its axes"
    if near(moment.share, 1.0):
        return ""
    if size is not None and size > 1 and near(moment.share, size / (size - 1)):
        return f"the {around} divides by {size - 1}, one less than the number of elements"
    if size is None:
        return f"the {around} is a sum over axes whose size is not known"
    return f"the {around} is scaled by {moment.share:g}, or by what is no constant"
