"""The products around a site as one layer before it and one behind: weights read and replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Course
from burnish.optimizer.analysis.channels.nodes import NORMALIZATIONS
from burnish.optimizer.analysis.channels.sites import Site
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import Repaired, bias_of, matrix_of
from burnish.passes.compress.pruning.diagonal import Diagonal, Spread, Sums
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.moments import Moments

WIDEST = 6144
"""Inputs of the widest layer that is solved for: its moments take 300 MB."""

Fit = Layer | Diagonal
"""What is known of products of one input."""


def stacked(products: Sequence[Product]) -> tuple[Array, Array]:
    """The weights of products of one input side by side, [k, n], and their biases [n]."""
    weight = np.hstack([matrix_of(product) for product in products])
    return np.ascontiguousarray(weight), np.hstack([bias_of(product) for product in products])


def apart(weight: Array, bias: Array, products: Sequence[Product]) -> Repaired:
    """What is side by side, as the products have it."""
    ends = np.cumsum([product.n for product in products])[:-1]
    return Repaired(tuple(np.split(weight, ends, axis=1)), tuple(np.split(bias, ends)))


def is_biased(products: Sequence[Product]) -> bool:
    """Whether all products add a bias, so that means can be made up for at no cost."""
    return all(product.bias is not None and product.beta != 0.0 for product in products)


def writers_of(site: Site) -> list[Product]:
    """The products that write a site where it is first; one that writes several parts once."""
    weights = dict.fromkeys(item.product.weight for item in site.writers)
    return [site.trace.by_weight[weight][0] for weight in weights]


def inputs_of(products: Sequence[Product]) -> list[list[Product]]:
    """The products by what they multiply."""
    found: dict[ir.Value, list[Product]] = {}
    for product in products:
        found.setdefault(product.activation, []).append(product)
    return list(found.values())


def first_node(model: ir.Model, products: Sequence[Product]) -> ir.Node:
    """The earliest node of some products."""
    members = {product.nodes[0] for product in products}
    return next(node for node in model.graph if node in members)


def around(site: Site) -> list[Product]:
    """The products before and behind a site."""
    return [*writers_of(site), *site.readers]


def is_wide(site: Site) -> bool:
    """Whether a site has a layer beside it that is too wide to be solved for."""
    return max(product.k for product in around(site)) > WIDEST


def fitted(
    products: Sequence[Product],
    before: Course,
    now: Course,
    stops: Iterable[str] | None = None,
    *,
    quick: bool = False,
) -> Fit:
    """What is known of products of one input: least squares, unless that is too wide.

    Args:
        products: of the original model.
        before: its course, which stands before them and says what they gave.
        now: a course that says what they get; it may be the same.
        stops: names of all that the weights multiply, where layers share them; each is asked for
            when the courses are to stand before it.
        quick: no least squares.
    """
    weight, bias = stacked(products)
    scale = np.hstack([importance(product) for product in products])
    is_diagonal = quick or len(weight) > WIDEST
    sums = Sums(*weight.shape) if is_diagonal else Moments(*weight.shape)
    for name in stops if stops is not None else [products[0].activation.name or ""]:
        for given, x in _pairs(before, now, name):
            sums.add(x, given @ weight + bias)
    known = sums.about(mean=is_biased(products))
    if isinstance(known, Spread):
        return Diagonal(known, weight, scale)
    return Layer(known, weight, scale)


def solvable(fit: Fit) -> Layer:
    """What is known of a layer that heads of fewer elements and ranks need."""
    assert isinstance(fit, Layer)
    return fit


def importance(product: Product) -> Array:
    """How much each channel that a product gives counts, [n].

    Where a normalization reads it, or the sum that it is added to, that is its scale: channels of a
    residual stream that are much larger than others are mostly scaled down.
    """
    readers = [use.node for use in product.output.uses()]
    sums = [node.outputs[0] for node in readers if node.op_type == "Add"]
    readers += [use.node for value in sums for use in value.uses()]
    for node in readers:
        scale = node.inputs[1] if node.op_type in NORMALIZATIONS else None
        if scale is not None and scale.const_value is not None:
            array = np.abs(scale.const_value.numpy().reshape(-1).astype(np.float64))
            if len(array) == product.n and array.any():
                return np.asarray(array)
    return np.ones(product.n)


def _pairs(before: Course, now: Course, name: str) -> Iterator[tuple[Array, Array]]:
    if before is now:
        return ((rows, rows) for rows in now.rows(name))
    return zip(before.rows(name), now.rows(name), strict=True)


def put(products: Sequence[Product], repaired: Repaired) -> None:
    """Give products other weights of the same sizes, in place; biases where they have one."""
    for product, weight, bias in zip(products, repaired.weights, repaired.biases, strict=True):
        array = weight / np.float32(product.alpha)
        array = array.T if product.transposed else array
        product.weight.const_value = ir.Tensor(np.ascontiguousarray(array, np.float32))
        if product.bias is None or product.beta == 0.0:
            continue
        old = product.bias.const_value
        assert old is not None
        moved = (bias / np.float32(product.beta)).reshape(old.shape.numpy())
        product.bias.const_value = ir.Tensor(np.ascontiguousarray(moved, np.float32))
