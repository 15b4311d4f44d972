"""Divide activations; see the package."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products, shape_of
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.smoothing.places import (
    NORMALIZATIONS,
    Site,
    Source,
    is_only_for,
    site_of,
)
from burnish.passes.compress.smoothing.search import FloatArray


@dataclass(frozen=True)
class Divided:
    """Groups of products after divisions.

    Attributes:
        groups: each with what its activation was divided by, or None.
        hidden: see `contract.Outcome`.
    """

    groups: list[tuple[list[Product], FloatArray | None]]
    hidden: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Products of divided activations."""
        return sum(len(members) for members, by in self.groups if by is not None)


def divide_all(
    model: ir.Model,
    groups: Sequence[Sequence[Product]],
    divisor: Callable[[Sequence[Product]], FloatArray | None],
    memo: dict[Hashable, Any],
    *,
    real: bool,
) -> Divided:
    """Divide the activations of groups of products where that is possible and pays.

    The weights of the groups stay: who rewrites the products multiplies their rows.

    Args:
        model: changed in place.
        groups: products that share an activation; see `products.groups`.
        divisor: what an activation is best divided by, given its products [k]; None for 1.
        memo: see `contract.Context`.
        real: whether divisors come from the user's data.
    """
    made = {product.output: product for product in find_products(model)[0]}
    sites = [site_of(members, model, made, real=real) for members in groups]
    # All are known before the first is divided, since that changes other products' weights.
    found = [None if site is None else _divisor(site, divisor(site.members)) for site in sites]
    hidden: dict[str, tuple[str, ...]] = {}
    for site, by in zip(sites, found, strict=True):
        if site is not None and by is not None:
            if site.source is not None:
                covering = tuple(member.output.name or "" for member in site.members)
                hidden[site.source.product.output.name or ""] = covering
            divide(site, by, memo)
    now = {product.nodes[0]: product for product in find_products(model)[0]}
    changed = [[now[member.nodes[0]] for member in members] for members in groups]
    return Divided(list(zip(changed, found, strict=True)), hidden)


def _divisor(site: Site, by: FloatArray | None) -> FloatArray | None:
    """What is divided by at a site.

    Behind a gate a channel may be all but silent on the rows, and loud on others: there what stands
    out is divided, and nothing multiplied.
    """
    if by is None or site.source is None:
        return by
    middle = np.median(by)
    return np.asarray(np.maximum(by, middle) / middle, np.float32)


def divide(site: Site, by: FloatArray, memo: dict[Hashable, Any]) -> None:
    """Let the products of a site read their activation divided by `by`."""
    members, activation = site.members, site.members[0].activation
    node = activation.producer()
    assert node is not None and isinstance(node.graph, ir.Graph)
    changed: tuple[ir.Value, ...] = (activation,)
    if site.source is not None:
        _divide_columns(site.source, by, memo)
        changed = site.source.values
    elif _has_own_constants(node) and is_only_for(activation, members):
        for index, value in list(enumerate(node.inputs))[1:]:
            if value is not None:
                node.replace_input_with(index, _divided(node.graph, value, by))
    else:
        inverse = add_initializer(node.graph, f"{activation.name}_divisor", ir.tensor(1 / by))
        quotient = ir.node("Mul", [activation, inverse])
        quotient.outputs[0].type, quotient.outputs[0].shape = activation.type, activation.shape
        node.graph.insert_after(node, quotient)
        for member in members:
            member.nodes[0].replace_input_with(0, quotient.outputs[0])
        return
    # Other values than before, so other names.
    for value in changed:
        value.name = f"{value.name}_smooth"


def _has_own_constants(node: ir.Node) -> bool:
    """Whether a node is a normalization with nothing but constants and one result that is read."""
    return (
        node.op_type in NORMALIZATIONS
        and not any(value.uses() for value in node.outputs[1:])
        and all(
            value is None or (value.const_value is not None and value.producer() is None)
            for value in node.inputs[1:]
        )
    )


def _divided(graph: ir.Graph, value: ir.Value, by: FloatArray) -> ir.Value:
    assert value.const_value is not None
    array = value.const_value.numpy() / by.reshape(shape_of(value))
    return add_initializer(graph, f"{value.name}_smooth", ir.tensor(array.astype(np.float32)))


def _divide_columns(source: Source, by: FloatArray, memo: dict[Hashable, Any]) -> None:
    """Divide some columns of a product's weight, and of its bias."""
    product, whole = source.product, np.ones(source.product.n, np.float32)
    whole[source.part] = by
    tensor, graph = product.weight.const_value, product.weight.graph
    assert tensor is not None and isinstance(graph, ir.Graph)
    key = ("divided", id(tensor), product.transposed, whole.tobytes())
    if key not in memo:

        def compute() -> ir.TensorProtocol:
            stored = tensor.numpy()
            return ir.Tensor(stored / (whole[:, None] if product.transposed else whole))

        shape = ir.Shape(tensor.shape.numpy())
        # What is made of the weight is remembered by its tensor, so that is always the same one.
        divided = ir.LazyTensor(compute, dtype=tensor.dtype, shape=shape, cache=False)
        memo[key] = tensor, divided
    weight = add_initializer(graph, f"{product.weight.name}_smooth", memo[key][1])
    (use,) = product.weight.uses()
    use.node.replace_input_with(use.idx, weight)
    if product.bias is not None:
        node = next(node for node in product.nodes if product.bias in node.inputs)
        bias = _divided(graph, product.bias, whole)
        node.replace_input_with(list(node.inputs).index(product.bias), bias)
