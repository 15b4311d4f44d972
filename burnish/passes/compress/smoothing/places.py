"""Where the division of an activation can go; see the package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, shape_of

LEAST_WIDTH = 2
"""Output channels per input channel from which a division by itself costs next to nothing."""

NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")

PROPORTIONAL = ("LeakyRelu", "PRelu", "Relu")
"""Operators whose result is multiplied by what their first input is, where that is positive."""


@dataclass(frozen=True)
class Source:
    """A product that an activation is proportional to, channel by channel.

    Attributes:
        product: what the division goes into.
        part: the columns of its weight that are the channels.
        values: those that are divided with it, the activation first and the product's result last.
    """

    product: Product
    part: slice
    values: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Site:
    """An activation that can be divided.

    Attributes:
        members: the products of it that read the quotient.
        source: where the division goes; None for a normalization, or a `Mul` behind one.
    """

    members: Sequence[Product]
    source: Source | None


def site_of(
    members: Sequence[Product],
    model: ir.Model,
    made: Mapping[ir.Value, Product],
    *,
    real: bool = False,
) -> Site | None:
    """Where the activation of products can be divided; None where it cannot.

    Args:
        members: they share it, and their weights are theirs alone.
        model: is not changed.
        made: products by what they give.
        real: whether what is known of the activation comes from the user's data.
    """
    activation = members[0].activation
    if members[0].graph is not model.graph or not all(map(_is_own, members)):
        return None
    alone = is_only_for(activation, members)
    if real and alone and (source := _source(activation, members[0].k, made)) is not None:
        return Site(members, source)
    usable = _is_normalized(activation) and (alone or _is_wide(members))
    return Site(members, None) if usable else None


def _is_own(product: Product) -> bool:
    """Whether nothing else reads the product's weight."""
    value = product.weight
    while len(value.uses()) == 1 and not value.is_graph_output():
        (use,) = value.uses()
        node = use.node
        if node is product.nodes[0]:
            return True
        value = node.outputs[0]
    return False


def _is_normalized(value: ir.Value) -> bool:
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


def is_only_for(activation: ir.Value, members: Sequence[Product]) -> bool:
    """Whether nothing but the products reads the activation."""
    readers = {member.nodes[0] for member in members}
    return not activation.is_graph_output() and all(
        use.node in readers for use in activation.uses()
    )


def _is_wide(members: Sequence[Product]) -> bool:
    return sum(member.n for member in members) >= LEAST_WIDTH * members[0].k


def _source(value: ir.Value, k: int, made: Mapping[ir.Value, Product]) -> Source | None:
    """The product that a value with k channels is proportional to, for positive factors."""
    product = made.get(value)
    if product is not None:
        fits = product.n == k and _is_own(product)
        return Source(product, slice(0, k), (value,)) if fits else None
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Split":
        return _part(node, value, k, made)
    if node.op_type != "Mul" and node.op_type not in PROPORTIONAL:
        return None
    for operand in node.inputs if node.op_type == "Mul" else node.inputs[:1]:
        if operand is not None and len(operand.uses()) == 1 and not operand.is_graph_output():
            found = _source(operand, k, made)
            if found is not None:
                return Source(found.product, found.part, (value, *found.values))
    return None


def _part(
    node: ir.Node, value: ir.Value, k: int, made: Mapping[ir.Value, Product]
) -> Source | None:
    """The k columns of a product that a `Split` of its result gives apart."""
    whole, sizes = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    product = made.get(whole) if whole is not None else None
    if whole is None or product is None or len(whole.uses()) > 1 or whole.is_graph_output():
        return None
    last = len(whole.shape) - 1 if whole.shape is not None else -1
    if sizes is None or sizes.const_value is None or not _is_own(product):
        return None
    if node.attributes.get_int("axis", 0) not in (-1, last):
        return None
    ends = np.cumsum(sizes.const_value.numpy()).tolist()
    end = ends[list(node.outputs).index(value)]
    return Source(product, slice(end - k, end), (value, whole))
