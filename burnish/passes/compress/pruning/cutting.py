"""Channels cut out of a model: products, heads and shapes written anew, the ports as they were.

`cut` is what a student is cut from its teacher with, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UsageError
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import prune, take_over
from burnish.passes.compress.pruning.interior import cut_nodes

SUFFIX = "pruned"
"""Ends the names of values that hold something else than before."""


@dataclass(frozen=True)
class Repaired:
    """What stands behind channels that stay, for each product that reads them.

    Attributes:
        weights: [rows that stay, n] of each.
        biases: [n] of each; they take the place of what there was.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]


def cut(
    model: ir.Model,
    choice: Mapping[str, Sequence[int]],
    repaired: Mapping[str, Repaired] | None = None,
) -> ir.Model:
    """A copy of the model that keeps only some units of its sites; weights are shared.

    Args:
        model: after the recover passes.
        choice: by `Site.key`, the heads or channels that stay; none of them takes the product
            behind away, and leaves its bias. Sites that are not named stay whole.
        repaired: other weights for the products behind; by default rows are left out.

    Raises:
        UsageError: there is no such site, or its units cannot be the only ones that stay.
    """
    copy = model.clone()
    shapes.annotate(copy)
    sites = {site.key: site for site in find_sites(copy)[0]}
    for key, kept in choice.items():
        if key not in sites:
            raise UsageError(f"there is no site {key} to be cut")
        if reason := why_not(sites[key], kept):
            raise UsageError(reason)
        cut_site(sites[key], kept, (repaired or {}).get(key))
    return copy


def why_not(site: Site, kept: Sequence[int]) -> str:
    """Why only these units cannot stay; empty where they can."""
    if not kept and not removable(site):
        return f"what reads {site.key} is not added to anything, and cannot go"
    return site.why_not(kept)


def removable(site: Site) -> bool:
    """Whether all products that read a site are added to something as large, and may go."""
    return all(_adder(product) is not None for product in site.trace.rows)


def _adder(product: Product) -> tuple[ir.Node, int] | None:
    """The node that adds a product to a value of the same rank, and the product's place in it."""
    uses = list(product.output.uses())
    if len(uses) != 1 or product.output.is_graph_output():
        return None
    node, index = uses[0].node, uses[0].idx
    if node.op_type != "Add" or node.domain != "":
        return None
    other = node.inputs[1 - index]
    if other is None or other.const_value is not None or other.shape is None:
        return None
    mine = product.output.shape
    same = mine is not None and list(other.shape) == list(mine)
    return (node, index) if same else None


def cut_site(site: Site, kept: Sequence[int], repaired: Repaired | None = None) -> None:
    """Keep only some units of a site, in place."""
    units = np.asarray(sorted(kept), np.int64)
    whole = len(units) == site.units
    for index, products in enumerate(zip(*site.trace.applied(site.readers), strict=True)):
        first = products[0]
        weight = matrix_of(first)[site.rows(kept)] if kept else None
        bias = bias_of(first)
        if repaired is not None:
            weight, bias = repaired.weights[index] if kept else None, repaired.biases[index]
        elif whole:
            continue
        _replace(products, weight, bias)
    if kept and not whole:
        cut_nodes(site, units)


def _replace(products: Sequence[Product], weight: Array | None, bias: Array) -> None:
    """Other weights in the place of what products share; without any, only the bias is added."""
    graph, name = products[0].graph, f"{products[0].weight.name}_{SUFFIX}"
    added = _stored(graph, f"{name}_bias", bias) if bias.any() else None
    stored = _stored(graph, name, weight) if weight is not None else None
    for product in products:
        if stored is None:
            _remove(product, added)
        else:
            _write(product, stored, added)


def matrix_of(product: Product) -> Array:
    """The weight [k, n] with its factor."""
    assert product.weight.const_value is not None
    array = product.weight.const_value.numpy()
    array = array.T if product.transposed else array
    return array if product.alpha == 1.0 else array * np.float32(product.alpha)


def bias_of(product: Product) -> Array:
    """The bias [n] as it is added; zeros where there is none."""
    if product.bias is None:
        return np.zeros(product.n, np.float32)
    assert product.bias.const_value is not None
    return product.bias.const_value.numpy().reshape(-1) * np.float32(product.beta)


def _write(product: Product, weight: ir.Value, bias: ir.Value | None) -> None:
    """Another weight in the place of a product's."""
    graph, anchor = product.graph, product.nodes[-1]
    made = ir.node("MatMul", [product.activation, weight], name=product.nodes[0].name)
    nodes = [made]
    if bias is not None:
        named = anchor.name if len(product.nodes) > 1 else None
        nodes.append(ir.node("Add", [made.outputs[0], bias], name=named))
    for node in nodes:
        graph.insert_before(anchor, node)
        node.outputs[0].type, node.outputs[0].shape = product.output.type, product.output.shape
    result, old = nodes[-1].outputs[0], product.output.name
    port = product.output.is_graph_output()
    take_over(product.output, result)
    if not port:
        result.name = f"{old}_{SUFFIX}"


def _remove(product: Product, bias: ir.Value | None) -> None:
    """What a product is added to stands for the sum; a bias goes on being added."""
    found = _adder(product)
    assert found is not None
    node, index = found
    if bias is not None:
        node.replace_input_with(index, bias)
    elif node.outputs[0].is_graph_output():
        identity = ir.node("Identity", [node.inputs[1 - index]])
        product.graph.insert_before(node, identity)
        identity.outputs[0].type = node.outputs[0].type
        identity.outputs[0].shape = node.outputs[0].shape
        take_over(node.outputs[0], identity.outputs[0])
    else:
        other = node.inputs[1 - index]
        assert other is not None
        ir.convenience.replace_all_uses_with(node.outputs[0], other)
        prune(node.outputs)
    prune([product.output])


def _stored(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    return add_initializer(graph, name, ir.Tensor(np.ascontiguousarray(array, np.float32)))
