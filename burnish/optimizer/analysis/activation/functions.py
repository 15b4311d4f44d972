"""Functions of one number that a graph computes element by element, known by their values.

An activation can be spelled in any order and with its constants folded anywhere; what it computes
is the same. So it is not compared as a graph: it is evaluated at points, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.matching import FLOATS, readers, scalar

Values = npt.NDArray[np.float64]

POINTS: Values = np.concatenate([np.linspace(-8, 8, 321), [-40.0, -20.0, 20.0, 40.0]])
"""Where functions are compared: densely where activations bend, and far out."""

MOST_VALUES = 16
"""Values that are looked at on either side of an anchor; activations have fewer."""

DEEPEST = 12
"""Operators one after another that are looked at."""


def _sigmoid(x: Values) -> Values:
    return 1.0 / (1.0 + np.exp(-x))


def _erf(x: Values) -> Values:
    return np.array([math.erf(number) for number in np.broadcast_to(x, POINTS.shape)])


OPERATORS: Mapping[str, Callable[..., Values]] = {
    "Add": np.add,
    "Cast": np.positive,
    "Div": np.divide,
    "Erf": _erf,
    "Exp": np.exp,
    "Identity": np.positive,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Sigmoid": _sigmoid,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
}

FUNCTIONS: Mapping[str, Callable[[Values], Values]] = {
    "GELU": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "GELU (tanh)": lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "quick GELU": lambda x: x * _sigmoid(1.702 * x),
    "SiLU": lambda x: x * _sigmoid(x),
}
"""The activations that are no operator of their own, or not one of every operator set."""

TOLERANCE = {ir.DataType.FLOAT16: 1e-3, ir.DataType.BFLOAT16: 8e-3}
"""How far constants that were rounded to a short type move an activation."""

SIX_DIGITS = 2e-6
"""How far constants written with six digits do."""


@dataclass(frozen=True)
class Likeness:
    """`value` is nearest to `factor * function(argument)`.

    Attributes:
        error: the largest difference, relative to the larger of 1 and the argument.
        point: the argument at which it is largest.
        within: whether the difference is one of rounded constants.
    """

    name: str
    value: ir.Value
    argument: ir.Value
    factor: float
    error: float
    point: float
    within: bool


def likenesses(anchor: ir.Node, names: tuple[str, ...]) -> list[Likeness]:
    """What the values that depend on an elementwise node alone are like, nearest first."""
    found = []
    with np.errstate(all="ignore"):
        for argument in _arguments(anchor):
            for value, computed in _dependents(anchor, argument).items():
                if value.dtype is argument.dtype and _same_rank(value, argument):
                    found += [_compare(name, value, argument, computed) for name in names]
    # Where a constant factor can still be folded into a later value, that one is the activation.
    return sorted(found, key=lambda like: (not like.within, like.factor != 1.0, like.error))


def _compare(name: str, value: ir.Value, argument: ir.Value, computed: Values) -> Likeness:
    wanted = FUNCTIONS[name](POINTS)
    factor = float(computed[-1] / wanted[-1])
    if not math.isfinite(factor) or abs(factor - 1.0) <= SIX_DIGITS or factor == 0.0:
        factor = 1.0
    errors = np.abs(computed / factor - wanted) / np.maximum(1.0, np.abs(POINTS))
    errors = np.where(np.isnan(errors), np.inf, errors)
    worst = int(np.argmax(errors))
    error = float(errors[worst])
    tolerance = TOLERANCE.get(value.dtype or ir.DataType.FLOAT, SIX_DIGITS)
    if abs(factor - 1.0) <= tolerance:
        factor = 1.0
    return Likeness(name, value, argument, factor, error, float(POINTS[worst]), error <= tolerance)


def is_cubic(anchor: ir.Node) -> bool:
    """Whether a node's argument is an odd polynomial of third degree in some value."""
    with np.errstate(all="ignore"):
        for argument in _arguments(anchor):
            computed = evaluate(anchor.inputs[0], {argument: POINTS})
            if computed is None or not np.isfinite(computed).all():
                continue
            powers = np.stack([POINTS, POINTS**3], axis=1)
            fit, *_ = np.linalg.lstsq(powers, computed, rcond=None)
            rest = np.abs(powers @ fit - computed).max()
            if abs(fit[1]) > 1e-6 and rest <= 1e-6 * np.abs(computed).max():
                return True
    return False


def multiplies_its_argument(anchor: ir.Node) -> bool:
    """Whether a node's result is multiplied by what it is computed from."""
    arguments = set(_arguments(anchor))
    return any(
        reader.op_type == "Mul" and not arguments.isdisjoint(reader.inputs)
        for reader in readers(anchor.outputs[0])
    )


def evaluate(
    value: ir.Value | None, known: dict[ir.Value, Values | None], depth: int = 0
) -> Values | None:
    """A value at points, from known ones, through elementwise operators and constants alone.

    What is found on the way is added to `known`.
    """
    if value is None or value in known:
        return known[value] if value is not None else None
    number = scalar(value)
    if number is not None:
        return np.float64(number) * np.ones(1)
    node = value.producer()
    known[value] = _apply(node, known, depth) if node is not None and depth < DEEPEST else None
    return known[value]


def _apply(node: ir.Node, known: dict[ir.Value, Values | None], depth: int) -> Values | None:
    if not _is_elementwise(node):
        return None
    operands: list[Values] = []
    for item in node.inputs:
        operand = evaluate(item, known, depth + 1)
        if operand is None:
            return None
        operands.append(operand)
    if node.op_type == "Swish":
        return operands[0] * _sigmoid(node.attributes.get_float("alpha", 1.0) * operands[0])
    return OPERATORS[node.op_type](*operands)


def _is_elementwise(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in (*OPERATORS, "Swish"):
        return False
    return node.op_type != "Cast" or node.attributes.get_int("to", 0) in FLOATS


def _same_rank(value: ir.Value, argument: ir.Value) -> bool:
    if value.shape is None or argument.shape is None:
        return True
    return len(value.shape) == len(argument.shape)


def _arguments(anchor: ir.Node) -> list[ir.Value]:
    """The values that a node's argument may be a function of, nearest first."""
    found: dict[ir.Value, None] = {}
    queue = [value for value in anchor.inputs if value is not None]
    while queue and len(found) < MOST_VALUES:
        value = queue.pop(0)
        if value in found or scalar(value) is not None:
            continue
        found[value] = None
        node = value.producer()
        if node is not None and _is_elementwise(node):
            queue += [item for item in node.inputs if item is not None]
    return list(found)


def _dependents(anchor: ir.Node, argument: ir.Value) -> dict[ir.Value, Values]:
    """Values from the anchor on that are functions of the argument, in order."""
    found: dict[ir.Value, Values] = {}
    known: dict[ir.Value, Values | None] = {argument: POINTS}
    queue = [anchor]
    while queue and len(found) < MOST_VALUES:
        node = queue.pop(0)
        computed = evaluate(node.outputs[0], known)
        if computed is None or node.outputs[0] in found:
            continue
        found[node.outputs[0]] = computed
        queue += readers(node.outputs[0])
    return found
