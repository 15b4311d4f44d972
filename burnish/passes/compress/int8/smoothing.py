"""Outlying channels move from an activation into the weights that read it.

    product:  x @ w  ==  (x / d) @ (d * w)      d [k], positive

A tensor has one range in int8, so that a channel with values of 30 leaves few steps to a hundred
channels with values of 1; weights have a range per output channel and hardly notice. This is
SmoothQuant (Xiao et al., 2023, arXiv:2211.10438). Its exponent is a half, or with the user's own
data the one that measures best there, for each activation.

Only outputs of normalizations are treated: which of their channels stand out is a property of the
model (of its scale and of the residual stream), so that ranges seen on one kind of input hold on
another. Elsewhere they do not: ranges of activations and attention on made-up inputs made int8
worse on real text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, shape_of
from burnish.optimizer.contract import Array, Observation
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.int8.rounding import rounded_activation, rounded_weight
from burnish.passes.compress.int8.weights import columns

FloatArray = npt.NDArray[np.float32]

LEAST_GAIN = 1.3
"""Factor by which the rounding error of the products must fall, as estimated by `divisor`."""

EXPONENTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""How much of a channel's range goes into the weights; SmoothQuant's alpha."""

LEAST_WIDTH = 2
"""Output channels per input channel from which a division by itself costs next to nothing."""

NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")


def smoothable(members: Sequence[Product], model: ir.Model) -> bool:
    """Whether products of one activation can be smoothed: it is normalized, the weights theirs."""
    activation = members[0].activation
    own = all(len(member.weight.uses()) == 1 for member in members)
    return (
        members[0].graph is model.graph
        and own
        and _normalized(activation)
        and (_only_for(activation, members) or _wide(members))
    )


def _normalized(value: ir.Value) -> bool:
    """Whether the value ends a normalization: one operator, or the last scale and shift of it."""
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if node.op_type in NORMALIZATIONS:
        last = len(value.shape) - 1 if value.shape is not None else -1
        return value is node.outputs[0] and node.attributes.get_int("axis", -1) in (-1, last)
    if node.op_type == "Add":
        shifted = _beside_vector(node)
        node = shifted.producer() if shifted is not None else None
    return node is not None and node.op_type == "Mul" and _beside_vector(node) is not None


def _beside_vector(node: ir.Node) -> ir.Value | None:
    """The operand of an elementwise node whose other one is a constant, one element a channel."""
    for value, other in zip(node.inputs, reversed(node.inputs), strict=True):
        if value is None or value.const_value is None or value.producer() is not None:
            continue
        shape = shape_of(value)
        if len(shape) >= 1 and shape[-1] > 1 and math.prod(shape) == shape[-1]:
            return other
    return None


def _only_for(activation: ir.Value, members: Sequence[Product]) -> bool:
    """Whether nothing but the products reads the activation."""
    readers = {member.nodes[0] for member in members}
    return not activation.is_graph_output() and all(
        use.node in readers for use in activation.uses()
    )


def _wide(members: Sequence[Product]) -> bool:
    return sum(member.n for member in members) >= LEAST_WIDTH * members[0].k


def divisor(
    seen: Observation, members: Sequence[Product], *, saturating: bool, by_token: bool
) -> FloatArray | None:
    """The divisors [k] of the activation's channels, or None where they gain too little.

    They are `peaks ** exponent / weights ** (1 - exponent)` over the channels. The exponent is a
    half, or where rows of real activations are known the one of `EXPONENTS` with the least error
    of the products on them.

    Args:
        seen: what the activation was.
        members: products of the activation.
        saturating: see `weights.operand`.
        by_token: whether each token has a range of its own.
    """
    peaks = np.maximum(np.abs(seen.least), np.abs(seen.largest)).astype(np.float64)
    weights = np.zeros(len(peaks))
    for member in members:
        assert member.weight.const_value is not None
        matrix = np.abs(member.weight.const_value.numpy()).max(axis=int(not member.transposed))
        weights = np.maximum(weights, matrix)
    if not (np.isfinite(peaks).all() and np.isfinite(weights).all() and peaks.any()):
        return None
    # A channel without values or weights has no ratio; it is bounded like the rarest of them.
    peaks = np.maximum(peaks, 1e-4 * peaks.max())
    weights = np.maximum(weights, 1e-4 * weights.max())
    if seen.rows is not None:
        return _searched(
            seen.rows, peaks, weights, members, saturating=saturating, by_token=by_token
        )
    found = _ratios(peaks, weights, 0.5)
    bounds = np.array([seen.least, seen.largest], np.float64)
    before = np.ptp([*bounds.flat, 0.0]) * np.linalg.norm(weights)
    after = np.ptp([*(bounds / found).flat, 0.0]) * np.linalg.norm(weights * found)
    return found.astype(np.float32) if before >= LEAST_GAIN * after else None


def _ratios(peaks: Array, weights: Array, exponent: float) -> Array:
    """The divisors for an exponent, with 1 as their geometric mean."""
    found = peaks**exponent / weights ** (1.0 - exponent)
    ratios: Array = found / np.exp(np.log(found).mean())
    return ratios


def _searched(
    rows: Array,
    peaks: Array,
    weights: Array,
    members: Sequence[Product],
    *,
    saturating: bool,
    by_token: bool,
) -> FloatArray | None:
    """The divisors whose products differ least from the exact ones on the rows."""
    matrix = np.concatenate([columns(member) for member in members], axis=1)
    exact = rows @ matrix

    def error(divisors: Array) -> float:
        left = rounded_activation(rows / divisors, by_token=by_token)
        right = rounded_weight(matrix * divisors[:, None], saturating=saturating)
        return float(np.linalg.norm(left @ right - exact))

    errors = {exponent: error(_ratios(peaks, weights, exponent)) for exponent in EXPONENTS}
    best = min(errors, key=lambda exponent: errors[exponent])
    if error(np.ones(len(peaks))) < LEAST_GAIN * errors[best]:
        return None
    return _ratios(peaks, weights, best).astype(np.float32)


def divide(members: Sequence[Product], by: FloatArray) -> None:
    """Let the products read their activation divided by `by`, for free where nothing else does."""
    activation = members[0].activation
    node = activation.producer()
    assert node is not None and isinstance(node.graph, ir.Graph)
    others_unused = all(not value.uses() for value in node.outputs[1:])
    foldable = node.op_type in NORMALIZATIONS and others_unused and _constant_scale(node)
    if foldable and _only_for(activation, members):
        for index, value in list(enumerate(node.inputs))[1:]:
            if value is not None:
                node.replace_input_with(index, _divided(node.graph, value, by))
        # Another value than before, so another name.
        activation.name = f"{activation.name}_smooth"
        return
    inverse = add_initializer(node.graph, f"{activation.name}_divisor", ir.tensor(1 / by))
    quotient = ir.node("Mul", [activation, inverse])
    quotient.outputs[0].type, quotient.outputs[0].shape = activation.type, activation.shape
    node.graph.insert_after(node, quotient)
    for member in members:
        member.nodes[0].replace_input_with(0, quotient.outputs[0])


def _constant_scale(node: ir.Node) -> bool:
    return all(
        value is None or (value.const_value is not None and value.producer() is None)
        for value in node.inputs[1:]
    )


def _divided(graph: ir.Graph, value: ir.Value, by: FloatArray) -> ir.Value:
    assert value.const_value is not None
    array = value.const_value.numpy() / by.reshape(shape_of(value))
    return add_initializer(graph, f"{value.name}_smooth", ir.tensor(array.astype(np.float32)))
