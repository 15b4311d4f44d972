"""What values hold at padded positions, whatever their inputs: the reach of a padding mask.

A fact says of an axis over positions that the elements at padded ones are a number, or lie so far
below all others that a softmax makes zeros of them. Facts flow from the mask through casts,
comparisons, logic, arithmetic with constants, broadcasts and views, and through lookups of the mask
at `[b, k]`. What is not known to keep a fact loses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.tokens.layout import Axis, Layout

HIDING = -1e4
"""A score from here on down has no weight beside others (BERT's own masks add this much)."""

VIEWS = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
"""Operators that change the shape only."""


class Padded(NamedTuple):
    """What is at padded positions: `number` exactly, or (not exact) something at most that."""

    number: float
    exact: bool


Facts = dict[ir.Value, dict[int, Padded]]
"""By value and axis."""

Arguments = Sequence[Padded | None]


def find(model: ir.Model, layout: Layout, mask: ir.Value) -> Facts:
    """Facts about the values of the main graph; `mask` is 0 at padded positions."""
    facts: Facts = {mask: {1: Padded(0.0, True)}}
    for node in model.graph:
        found = _of(node, layout, facts)
        if found:
            facts[node.outputs[0]] = found
    return facts


def hides(fact: Padded | None) -> bool:
    """Whether a fact about scores says that a softmax gives padded positions no weight."""
    return fact is not None and fact.number <= HIDING


def _of(node: ir.Node, layout: Layout, facts: Facts) -> dict[int, Padded]:
    if node.domain != "" or not any(value in facts for value in node.inputs if value is not None):
        return {}
    source = node.inputs[0]
    if node.op_type in VIEWS and source is not None:
        carried = {layout.carried(node, axis): fact for axis, fact in facts[source].items()}
        return {axis: fact for axis, fact in carried.items() if axis is not None}
    if node.op_type == "Softmax" and source is not None:
        rank = len(layout.dims(source) or ())
        axis = node.attributes.get_int("axis", -1 if layout.opset >= 13 else 1) % max(rank, 1)
        last = axis == rank - 1  # older softmaxes flatten the axes that come after
        return {axis: Padded(0.0, True)} if last and hides(facts[source].get(axis)) else {}
    if node.op_type in ("Gather", "GatherND") and source in facts:
        return _looked_up(node, layout, facts)
    fold = FOLDS.get(node.op_type)
    return _folded(node, layout, facts, fold) if fold is not None else {}


def _folded(
    node: ir.Node, layout: Layout, facts: Facts, fold: Callable[[ir.Node, Arguments], Padded | None]
) -> dict[int, Padded]:
    result, found = node.outputs[0], {}
    dims = layout.dims(result) or ()
    for axis, dim in enumerate(dims):
        if dim in (Axis.SEQUENCE, Axis.TOKENS) and layout.aligned(result, axis):
            inputs = node.inputs[:1] if node.op_type == "Expand" else node.inputs
            arguments = [_argument(value, layout, facts, result, axis) for value in inputs]
            fact = fold(node, arguments) if any(arguments) else None
            if fact is not None and not np.isnan(fact.number):
                found[axis] = fact
    return found


def _argument(
    value: ir.Value | None, layout: Layout, facts: Facts, result: ir.Value, axis: int
) -> Padded | None:
    """What an operand holds at the padded positions of the result's axis."""
    dims, whole = (layout.dims(item) if item is not None else None for item in (value, result))
    if value is None or dims is None or whole is None:
        return None
    shift = len(whole) - len(dims)
    own = axis - shift
    if own >= 0 and own in facts.get(value, {}):
        batch = layout.batch(value)
        same = dims[own] is Axis.TOKENS or (
            batch is not None and batch + shift == layout.batch(result)
        )
        return facts[value][own] if same else None
    constant = layout.constant(value)
    if constant is None or constant.size != 1 or constant.dtype.kind not in "fiub":
        return None
    return Padded(float(constant.reshape(())), True)


def _looked_up(node: ir.Node, layout: Layout, facts: Facts) -> dict[int, Padded]:
    """The mask read at `[b, k]` for every sequence b and position k of the result's axes."""
    source, indices, result = node.inputs[0], node.inputs[1], node.outputs[0]
    assert source is not None
    both, batch = layout.elements(indices), layout.batch(result)
    dims = layout.dims(result) or ()
    axes = [axis for axis, dim in enumerate(dims) if dim is Axis.SEQUENCE]
    if both is None or batch is None:
        return {}
    flat = node.op_type == "Gather"
    known = facts[source].get(0 if flat else 1)
    plain = node.attributes.get_int("axis" if flat else "batch_dims", 0) == 0
    if known is None or not plain or (flat and (layout.dims(source) or ())[0] is not Axis.TOKENS):
        return {}
    return {
        axis: known
        for axis in axes
        if all(
            _is_index(array, sizes, flat, batch, axis)
            for array, sizes in zip(both, layout.index(), strict=True)
        )
    }


def _is_index(array: np.ndarray, sizes: tuple[int, int], flat: bool, batch: int, axis: int) -> bool:
    """Whether an index array holds `b * length + k` (flat), or `b, k` along its last axis."""
    rank = array.ndim if flat else array.ndim - 1
    if max(batch, axis) >= rank or (not flat and array.shape[-1] != 2):
        return False
    rows = np.arange(sizes[0]).reshape([-1 if i == batch else 1 for i in range(rank)])
    columns = np.arange(sizes[1]).reshape([-1 if i == axis else 1 for i in range(rank)])
    if flat:
        return bool((array == rows * sizes[1] + columns).all())
    return bool((array[..., 0] == rows).all() and (array[..., 1] == columns).all())


def _exactly(function: Callable[..., object]) -> Callable[[ir.Node, Arguments], Padded | None]:
    """Of operators where every operand has to be known."""

    def fold(node: ir.Node, arguments: Arguments) -> Padded | None:
        if not all(item is not None and item.exact for item in arguments):
            return None
        with np.errstate(all="ignore"):
            numbers = [item.number for item in arguments if item is not None]
            return Padded(float(function(*numbers)), True)  # type: ignore[arg-type]

    return fold


def _add(node: ir.Node, arguments: Arguments) -> Padded | None:
    if all(item is not None and item.exact for item in arguments):
        return Padded(sum(item.number for item in arguments if item is not None), True)
    low = [item for item in arguments if hides(item)]
    return Padded(min(item.number for item in low if item), False) if low else None


def _subtract(node: ir.Node, arguments: Arguments) -> Padded | None:
    second = arguments[1]
    negative = Padded(-second.number, True) if second is not None and second.exact else None
    return _add(node, (arguments[0], negative))


def _multiply(node: ir.Node, arguments: Arguments) -> Padded | None:
    if any(item is not None and item.exact and item.number == 0.0 for item in arguments):
        return Padded(0.0, True)
    return _exactly(lambda a, b: a * b)(node, arguments)


def _divide(node: ir.Node, arguments: Arguments) -> Padded | None:
    if arguments[0] is not None and arguments[0] == Padded(0.0, True):
        return arguments[0]
    return _exactly(lambda a, b: np.float64(a) / b)(node, arguments)


def _where(node: ir.Node, arguments: Arguments) -> Padded | None:
    condition, first, second = arguments
    if condition is not None and condition.exact:
        return first if condition.number else second
    return first if first is not None and first == second else None


def _cast(node: ir.Node, arguments: Arguments) -> Padded | None:
    fact = arguments[0]
    if fact is not None and node.attributes["to"].as_int() == ir.DataType.BOOL:
        return Padded(float(fact.number != 0.0), True) if fact.exact else None
    return fact


def _and(node: ir.Node, arguments: Arguments) -> Padded | None:
    if any(item is not None and item.exact and item.number == 0.0 for item in arguments):
        return Padded(0.0, True)
    return _exactly(lambda a, b: bool(a) and bool(b))(node, arguments)


def _or(node: ir.Node, arguments: Arguments) -> Padded | None:
    if any(item is not None and item.exact and item.number != 0.0 for item in arguments):
        return Padded(1.0, True)
    return _exactly(lambda a, b: bool(a) or bool(b))(node, arguments)


def _minimum(node: ir.Node, arguments: Arguments) -> Padded | None:
    known = [item for item in arguments if item is not None]
    number = min((item.number for item in known), default=0.0)
    exact = len(known) == len(arguments) and all(item.exact for item in known)
    return Padded(number, exact) if exact or number <= HIDING else None


def _maximum(node: ir.Node, arguments: Arguments) -> Padded | None:
    if any(item is None for item in arguments):
        return None
    known = [item for item in arguments if item is not None]
    return Padded(max(item.number for item in known), all(item.exact for item in known))


FOLDS: dict[str, Callable[[ir.Node, Arguments], Padded | None]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Where": _where,
    "Cast": _cast,
    "And": _and,
    "Or": _or,
    "Min": _minimum,
    "Max": _maximum,
    "Expand": lambda node, arguments: arguments[0],
    "Not": _exactly(lambda a: not a),
    "Neg": _exactly(lambda a: -a),
    "IsNaN": _exactly(np.isnan),
    "Equal": _exactly(lambda a, b: a == b),
    "Greater": _exactly(lambda a, b: a > b),
    "GreaterOrEqual": _exactly(lambda a, b: a >= b),
    "Less": _exactly(lambda a, b: a < b),
    "LessOrEqual": _exactly(lambda a, b: a <= b),
}
"""What elementwise operators make of padded positions."""
