"""Smaller heads and products of lower rank: what they compute, and where they win over widths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import made_up, make_context
from samples import encoder
from test_prune import SIZES, context, difference, recovered

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import CHANNELS, HEADS, Site, find_sites
from burnish.optimizer.executor import Executor
from burnish.optimizer.signature import Signature
from burnish.passes.compress.pruning.costs import shape_of
from burnish.passes.compress.pruning.cutting import Repaired, bias_of, matrix_of
from burnish.passes.compress.pruning.layers import around, put
from burnish.passes.compress.pruning.levels import Form
from burnish.passes.compress.pruning.narrowing import Inner, inner_of, narrow
from burnish.passes.compress.pruning.prune import Prune
from burnish.passes.compress.pruning.ranks import factored, ranks_of
from burnish.passes.compress.pruning.sample import layers

WIDTH, HEAD, LEFT = 64, 16, 4


def changed(change: Callable[[Site], None]) -> ir.Model:
    model = recovered(ir.from_proto(encoder(layers=1, width=WIDTH, heads=WIDTH // HEAD)))
    for site in find_sites(model)[0]:
        change(site)
    return model


def of_low_rank(site: Site) -> None:
    """Products around hidden channels of rank 8."""
    for product in around(site) if site.kind == CHANNELS else ():
        left, values, right = np.linalg.svd(matrix_of(product), full_matrices=False)
        weight = (left[:, :8] * values[:8]) @ right[:8]
        put([product], Repaired((weight.astype(np.float32),), (bias_of(product),)))


def with_small_heads(site: Site) -> None:
    """Queries, keys and values that hold few directions of each head, mixed with each other."""
    inner = inner_of(site)
    if inner is None:
        return
    random = np.random.default_rng(0)
    blocks = np.zeros((WIDTH, WIDTH), np.float32)
    for start in range(0, WIDTH, HEAD):
        at = slice(start, start + HEAD)
        blocks[at, at] = random.normal(size=(HEAD, LEFT)) @ random.normal(size=(LEFT, HEAD)) / HEAD
    for product in (inner.query, inner.key, inner.value):
        put([product], Repaired((matrix_of(product) @ blocks,), (bias_of(product) @ blocks,)))


def pruned(
    model: ir.Model, executor: Executor, share: float, *, factors: bool
) -> tuple[dict[str, Form], float]:
    feeds = made_up(model)
    result = model.clone()
    outcome = Prune(share, factors=factors).apply(result, context(model, executor, feeds))
    assert Signature.of(model).difference(Signature.of(result)) == ""
    before, after = (
        sum(getattr(row, name) for row in outcome.pruned)
        for name in ("flops_before", "flops_after")
    )
    assert 1 - after / before >= share - 0.01
    found = {row.kind: Form(row.after, row.sizes, row.rank or 0) for row in outcome.pruned}
    return found, difference(model, result, feeds)


def test_products_of_low_rank_are_taken_apart(executor: Executor) -> None:
    model = changed(of_low_rank)
    forms, lost = pruned(model, executor, 0.1, factors=True)
    assert forms[CHANNELS] == Form(2 * WIDTH, None, 32)
    widths_only = pruned(model, executor, 0.1, factors=False)[1]
    assert lost < 0.1 * widths_only


def test_heads_of_few_directions_become_smaller(executor: Executor) -> None:
    model = changed(with_small_heads)
    forms, lost = pruned(model, executor, 0.2, factors=True)
    assert forms[HEADS].sizes is not None
    assert max(forms[HEADS].sizes) < HEAD
    widths_only = pruned(model, executor, 0.2, factors=False)[1]
    assert lost < 0.5 * widths_only


def test_what_is_not_of_low_rank_loses_channels(executor: Executor) -> None:
    """Channels that nothing reads go at no loss, where ranks would cost."""

    def unread(site: Site) -> None:
        if site.kind == CHANNELS:
            for product in site.readers:
                weight = matrix_of(product).copy()
                weight[WIDTH:] = 0
                put([product], Repaired((weight,), (bias_of(product),)))

    forms, _ = pruned(changed(unread), executor, 0.3, factors=True)
    assert forms[CHANNELS].rank == 0
    assert forms[CHANNELS].width < 2 * WIDTH


@pytest.mark.parametrize("sizes", [(4, 16), (16, 8), (8, 12)])
def test_smaller_heads_compute_what_zeros_do(sizes: tuple[int, int]) -> None:
    def zeros(site: Site) -> None:
        inner = inner_of(site)
        if inner is not None:
            _zeros(inner, site, sizes)

    model = changed(zeros)
    result = model.clone()
    for site in find_sites(result)[0]:
        if site.kind == HEADS:
            narrow(site, sizes)
    assert difference(model, result, made_up(model)) < 1e-5
    again = next(site for site in find_sites(result)[0] if site.kind == HEADS)
    assert again.size == sizes[1]


def _zeros(inner: Inner, site: Site, sizes: tuple[int, int]) -> None:
    """Zeros for elements of heads that are to go, before an attention and behind."""
    sized = ((inner.query, sizes[0]), (inner.key, sizes[0]), (inner.value, sizes[1]))
    for product, size in sized:
        gone = np.arange(product.n) % HEAD >= size
        weight, bias = matrix_of(product).copy(), bias_of(product).copy()
        weight[:, gone], bias[gone] = 0, 0
        put([product], Repaired((weight,), (bias,)))


def test_products_of_a_rank_compute_the_same() -> None:
    model = changed(of_low_rank)
    result = model.clone()
    site = next(site for site in find_sites(result)[0] if site.kind == CHANNELS)
    assert ranks_of(site) == [32]
    factored(site, 32)
    assert difference(model, result, made_up(model)) < 1e-5


@pytest.mark.parametrize("kind", [HEADS, CHANNELS])
def test_samples_run_in_every_form(kind: str) -> None:
    model = changed(lambda site: None)
    known = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    site = next(site for site in find_sites(model)[0] if site.kind == kind)
    forms = [Form(4, (8, 4)), Form(3, (4, 16))] if kind == HEADS else [Form(2 * WIDTH, None, 32)]
    shape = shape_of(site, known)
    whole = len(layers(shape, Form(site.units)).SerializeToString())
    for form in forms:
        message: onnx.ModelProto = layers(shape, form)
        data = message.SerializeToString()
        assert len(data) < whole
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        axes = session.get_inputs()[0].shape
        (given,) = session.run(None, {"x": np.ones(axes, np.float32)})
        assert given.shape == (*axes[:2], WIDTH)
