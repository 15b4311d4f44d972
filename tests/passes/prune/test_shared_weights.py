"""Weights and biases that several layers use: what goes of one goes of all, or only of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, make_context, ruled
from samples import encoder
from test_prune import SIZES, difference, recovered

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.pruning.biases import separate_biases
from burnish.passes.compress.pruning.costs import operations
from burnish.passes.compress.pruning.cutting import cut, matrix_of
from burnish.passes.compress.pruning.prune import Prune


def products(model: ir.Model) -> list[list[Product]]:
    """The six products of each layer."""
    found = [item for item in find_products(model)[0] if item.bias is not None]
    return [found[:6], found[6:12]]


def put(product: Product, place: int, value: ir.Value | None) -> None:
    old = product.weight if place else product.bias
    for node in product.nodes:
        for index, item in enumerate(node.inputs):
            if item is old:
                node.replace_input_with(index, value)


@pytest.fixture
def albert() -> ir.Model:
    """Two layers with the weights of the first."""
    model = ir.from_proto(encoder(layers=2, width=32, heads=4))
    for first, second in zip(*products(model), strict=True):
        put(second, 0, first.bias)
        put(second, 1, first.weight)
    model = recovered(model)
    shapes.annotate(model)
    return model


def zeroed(model: ir.Model, site: Site, kept: Sequence[int]) -> ir.Model:
    copy = model.clone()
    same = next(item for item in find_sites(copy)[0] if item.key == site.key)
    gone = np.setdiff1d(np.arange(site.units * site.size), site.rows(kept))
    for product in same.readers:
        array = matrix_of(product).copy()
        array[gone] = 0
        product.weight.const_value = ir.Tensor(array.T if product.transposed else array)
    return copy


def test_layers_that_share_weights_are_one_site(albert: ir.Model) -> None:
    sites, _ = find_sites(albert)
    assert [(site.kind, site.uses) for site in sites] == [("heads", 2), ("channels", 2)]
    context = make_context(sizes=SIZES, shapes=shapes.infer(albert, SIZES))
    apart = recovered(ir.from_proto(encoder(layers=2, width=32, heads=4)))
    shapes.annotate(apart)
    each = [operations(site, site.units, context) for site in find_sites(apart)[0]]
    shared = [operations(site, site.units, context) for site in sites]
    assert shared == [each[0] + each[2], each[1] + each[3]]


def test_a_cut_goes_through_all_layers_and_weights_stay_shared(albert: ir.Model) -> None:
    fed = made_up(albert)
    for site in find_sites(albert)[0]:
        kept = tuple(range(0, site.units, 2))
        narrow = cut(albert, {site.key: kept})
        assert difference(zeroed(albert, site, kept), narrow, fed) < 2e-5
        assert len(narrow.graph.initializers) <= len(albert.graph.initializers) + 2
        gone = cut(albert, {site.key: ()})
        assert difference(albert, gone, fed) > 1e-3


def test_a_weight_with_another_reader_stays(albert: ir.Model) -> None:
    weight = products(albert)[0][4].weight
    albert.graph.outputs.append(weight)
    reasons = {item.reason for item in find_sites(albert)[1]}
    assert "a weight has other readers" in reasons


def test_moments_of_all_uses_say_what_goes(albert: ir.Model, executor: Executor) -> None:
    fed = made_up(albert)
    activations = Activations(executor, executor.store(fed), ["attention_mask"])
    known = shapes.infer(albert, SIZES)
    context = make_context(ruled, sizes=SIZES, shapes=known, activations=activations)
    before = albert.clone()
    outcome = Prune(share=0.4).apply(albert, context)
    bare = before.clone()
    Prune(share=0.4, repair=False).apply(bare, context)
    assert sum(row.after for row in outcome.pruned) < sum(row.before for row in outcome.pruned)
    assert {site.uses for site in find_sites(albert)[0]} == {2}
    assert difference(before, albert, fed) < difference(before, bare, fed)


def test_biases_shared_by_chance_are_separated() -> None:
    """Exporters keep equal constants once: repairing one layer must not change another."""
    model = ir.from_proto(encoder(layers=2, width=32, heads=4))
    zeros = add_initializer(model.graph, "zeros", ir.Tensor(np.zeros(32, np.float32)))
    for layer in products(model):
        put(layer[3], 0, zeros)
    fed = made_up(model)
    before = model.clone()
    separate_biases(model)
    first, second = (layer[3].bias for layer in products(model))
    assert first is not None and second is not None and first is not second
    assert difference(before, model, fed) == 0.0
    names = list(model.graph.initializers)
    separate_biases(model)
    assert list(model.graph.initializers) == names


def test_layers_that_share_weights_go_on_sharing_their_bias(albert: ir.Model) -> None:
    names = list(albert.graph.initializers)
    separate_biases(albert)
    assert list(albert.graph.initializers) == names
