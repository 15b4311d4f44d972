"""Heads of fewer elements: queries and keys that are compared in fewer, values that carry fewer.

Scores of a head are `(x Wq + bq) (z Wk)^T`, but for what is the same for all keys, which a softmax
takes away. So are what values give `z Wv Wo`. Both are products of two matrices with the size of a
head between them: turned to their singular directions, the least of them can go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.channels.sites import HEADS, Site
from burnish.optimizer.analysis.matching import rank
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import SUFFIX, Repaired, bias_of, matrix_of
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.interior import write_columns

TINY = 1e-6
"""Of the mean of a moment's diagonal, what keeps it invertible."""


@dataclass(frozen=True)
class Inner:
    """An attention with a product for each operand, whose heads may become smaller.

    Attributes:
        query, key, value: the products, of which nothing else reads.
        heads: as many of each.
        size, value_size: elements of a head of queries and keys, and of values.
    """

    query: Product
    key: Product
    value: Product
    heads: int
    size: int
    value_size: int


def inner_of(site: Site) -> Inner | None:
    """The products of an attention; None where something else is between, or shared."""
    if site.kind != HEADS or site.keys_stay or site.groups != site.units or site.uses > 1:
        return None
    node = site.trace.attentions[0]
    known = {item.product.output: item.product for item in site.writers}
    products = [known[item] for item in node.inputs[:3] if item in known]
    if rank(node.inputs[0]) != 3 or len(products) != 3 or len(site.writers) != 3:
        return None
    if len(known) != 3 or len({product.activation for product in products}) > 1:
        return None
    if not all(_only(product.output, node) for product in products):
        return None
    shown = any(item.uses() or item.is_graph_output() for item in node.outputs[1:])
    bounded = node.attributes.get_float("softcap", 0.0)
    if node.outputs[0] is not site.source or shown or bounded or any(node.inputs[4:]):
        return None
    query, key, value = products
    return Inner(query, key, value, site.units, query.n // site.units, site.size)


def _only(value: ir.Value, node: ir.Node) -> bool:
    """Whether nothing but a node reads elements of a value; its length may be asked for."""
    readers = [use.node for use in value.uses() if use.node.op_type != "Shape"]
    return readers == [node]


def narrow(site: Site, sizes: tuple[int, int]) -> None:
    """Cut the heads of an attention to their first elements, in place.

    Args:
        site: whose products hold zeros for those that go; it is no longer true of the model then.
        sizes: elements of a head of queries and keys, and of values.
    """
    inner, node = inner_of(site), site.trace.attentions[0]
    assert inner is not None
    scale = node.attributes.get_float("scale", 0.0) or inner.size**-0.5
    node.attributes["scale"] = ir.AttrFloat32("scale", scale)
    parts = ((inner.query, sizes[0]), (inner.key, sizes[0]), (inner.value, sizes[1]))
    for product, size in parts:
        left = first(inner.heads, product.n // inner.heads, size)
        if len(left) == product.n:
            continue
        write_columns([product], left)
        for item in product.nodes:
            _resized(item.outputs[0], len(left))
    if sizes[1] == inner.value_size:
        return
    left = first(inner.heads, inner.value_size, sizes[1])
    for product in site.readers:
        weight = np.ascontiguousarray(matrix_of(product)[left] / np.float32(product.alpha))
        product.weight.const_value = ir.Tensor(weight.T.copy() if product.transposed else weight)
        product.weight.shape = ir.Shape(product.weight.const_value.shape.numpy())
    _resized(site.source, len(left))


def _resized(value: ir.Value, length: int) -> None:
    value.shape = ir.Shape([*value.shape[:-1], length]) if value.shape is not None else None
    value.name = f"{value.name}_{SUFFIX}"


def first(heads: int, size: int, left: int) -> Array:
    """The first elements of each head, ascending."""
    return (np.arange(heads)[:, None] * size + np.arange(left)).reshape(-1)


def compared(inner: Inner, layer: Layer, left: int) -> tuple[Repaired, Array]:
    """Queries and keys that are compared in fewer directions, zeros in the place of others.

    Args:
        inner: products with the weights to start from.
        layer: of what they read.
        left: elements of a head that count.

    Returns:
        weights and biases of the two products at full size, and the squared error of scores with
        each number of elements [size + 1], as a share of them.
    """
    mean, gram = layer.inputs
    second = gram + np.outer(mean, mean)
    below = np.append(mean, 1.0)
    outer = _root(np.block([[second, mean[:, None]], [below[None]]]))
    other = _root(gram)
    query = np.vstack([matrix_of(inner.query), bias_of(inner.query)]).astype(np.float64)
    key = matrix_of(inner.key).astype(np.float64)
    asked, given = np.zeros_like(query), np.zeros_like(key)
    lost = np.zeros(inner.size + 1)
    for head in range(inner.heads):
        at = slice(head * inner.size, (head + 1) * inner.size)
        mine, theirs = np.linalg.qr(outer.T @ query[:, at]), np.linalg.qr(other.T @ key[:, at])
        turned, values, back = np.linalg.svd(mine.R @ theirs.R.T)
        root = np.sqrt(values[:left])
        stays = slice(at.start, at.start + left)
        asked[:, stays] = query[:, at] @ np.linalg.pinv(mine.R) @ (turned[:, :left] * root)
        given[:, stays] = key[:, at] @ np.linalg.pinv(theirs.R) @ (back[:left].T * root)
        lost += np.append(np.cumsum((values**2)[::-1])[::-1], 0.0)
    weights = asked[:-1].astype(np.float32), given.astype(np.float32)
    biases = asked[-1].astype(np.float32), np.zeros(given.shape[1], np.float32)
    return Repaired(weights, biases), lost / (lost[0] or 1.0)


def _root(moment: Array) -> Array:
    """A matrix r with r r^T = moment; directions that rows never take get a little."""
    values, vectors = np.linalg.eigh(moment)
    least = TINY * (float(np.diag(moment).mean()) or 1.0)
    return np.asarray(vectors * np.sqrt(np.maximum(values, least)))


def turned_values(inner: Inner, basis: Array, left: int) -> Repaired:
    """Values in another basis of each head, zeros in the place of elements that go.

    Args:
        inner: products with the weights to start from.
        basis: block by block, [heads * size, heads * size]; rows of values are multiplied with it.
        left: elements of a head that stay.
    """
    stays = first(inner.heads, inner.value_size, left)
    weight, bias = np.zeros_like(matrix_of(inner.value)), np.zeros_like(bias_of(inner.value))
    weight[:, stays] = matrix_of(inner.value) @ basis[:, stays].astype(np.float32)
    bias[stays] = bias_of(inner.value) @ basis[:, stays].astype(np.float32)
    return Repaired((weight,), (bias,))
