"""Pruning: what goes first, what makes up for it, and what a cut model computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, make_context, ruled, run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from samples import Builder, encoder

from burnish.optimizer import pipeline
from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.contract import Context, Feeds, Phase, relative_l2
from burnish.optimizer.errors import UsageError
from burnish.optimizer.executor import Executor
from burnish.optimizer.signature import Signature
from burnish.passes import REGISTRY
from burnish.passes.compress.pruning.allocation import allocate
from burnish.passes.compress.pruning.cutting import cut, matrix_of
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.levels import widths
from burnish.passes.compress.pruning.moments import Moments
from burnish.passes.compress.pruning.prune import NO_DATA, NO_SITE, Prune

SIZES = {"batch": 2, "sequence": 16}


def recovered(model: ir.Model) -> ir.Model:
    """The model as the pass gets it."""
    passes = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER and not kind.asked]
    chosen = [item for item in passes if item.name != "onnxsim"]
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    return pipeline.run(model, chosen, context, None).model


@pytest.fixture(scope="module")
def bert() -> ir.Model:
    return recovered(ir.from_proto(encoder(layers=2, width=32, heads=4)))


def context(model: ir.Model, executor: Executor, feeds: Sequence[Feeds], **more: Any) -> Context:
    activations = Activations(executor, executor.store(feeds), ["attention_mask"])
    inferred = shapes.infer(model, SIZES)
    return make_context(ruled, sizes=SIZES, shapes=inferred, activations=activations, **more)


def without(model: ir.Model, choice: dict[str, tuple[int, ...]]) -> ir.Model:
    """The model with zeros for what a choice removes: what cutting has to equal."""
    copy = model.clone()
    for site in find_sites(copy)[0]:
        every = np.arange(site.units * site.size)
        kept = choice.get(site.key, tuple(range(site.units)))
        gone = np.setdiff1d(every, site.rows(kept)) if kept else every
        for product in site.readers:
            array = product.weight.const_value.numpy().copy()  # type: ignore[union-attr]
            (array.T if product.transposed else array)[gone] = 0
            product.weight.const_value = ir.Tensor(array)
    return copy


def difference(first: ir.Model, second: ir.Model, feeds: Sequence[Feeds]) -> float:
    pairs = zip(run_model(first, feeds), run_model(second, feeds), strict=True)
    return max(relative_l2(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_a_cut_model_is_the_one_with_zeros(bert: ir.Model, data: st.DataObject) -> None:
    choice = {}
    for site in find_sites(bert)[0]:
        units = data.draw(st.sets(st.integers(0, site.units - 1)))
        choice[site.key] = tuple(sorted(units))
    model = cut(bert, choice)
    assert difference(without(bert, choice), model, made_up(bert)) < 1e-5
    assert Signature.of(bert).difference(Signature.of(model)) == ""


def test_choices_that_cannot_be_are_refused(bert: ir.Model) -> None:
    key = find_sites(bert)[0][0].key
    with pytest.raises(UsageError, match="no such units"):
        cut(bert, {key: (0, 99)})
    with pytest.raises(UsageError, match="no site elsewhere"):
        cut(bert, {"elsewhere": (0,)})


def layer(rows: int, k: int, n: int, seed: int = 0) -> tuple[Layer, np.ndarray, np.ndarray]:
    """A layer whose inputs depend on each other, its inputs and its outputs."""
    random = np.random.default_rng(seed)
    mixed = np.geomspace(1, 0.01, k)[:, None] * random.standard_normal((k, k))
    x = (random.standard_normal((rows, k)) @ mixed).astype(np.float32)
    weight = random.standard_normal((k, n)).astype(np.float32)
    y = x @ weight + 1
    moments = Moments(k, n)
    for start in range(0, rows, 37):
        moments.add(x[start : start + 37], y[start : start + 37])
    return Layer(moments.about(mean=True), weight, np.ones(n)), x, y


@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]))
@settings(max_examples=15, deadline=None)
def test_what_an_order_foretells_is_what_is_lost(seed: int, size: int) -> None:
    solver, x, y = layer(200, 16, 5, seed)
    units = np.arange(16).reshape(-1, size)
    order = solver.order(units)
    assert sorted(order.gone) == list(range(len(units)))
    assert (np.diff(order.lost) >= -1e-9).all()
    for count in range(1, len(units)):
        rows = units[list(order.kept(count))].reshape(-1)
        weight, bias = solver.solved(rows)
        lost = ((x[:, rows] @ weight + bias - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
        assert order.lost[len(units) - count] == pytest.approx(lost, abs=0.1)
        assert solver.lost(rows) == pytest.approx(lost, abs=1e-3)


def test_repair_makes_up_for_inputs_that_depend_on_others() -> None:
    solver, x, y = layer(400, 24, 6)
    units = np.arange(24).reshape(-1, 1)
    rows = units[list(solver.order(units).kept(12))].reshape(-1)
    weight, bias = solver.solved(rows)
    norm = np.linalg.norm(y - y.mean(0))
    plain = np.linalg.norm(x[:, rows] @ (np.linalg.lstsq(x, y - 1, rcond=None)[0])[rows] + 1 - y)
    assert np.linalg.norm(x[:, rows] @ weight + bias - y) < 0.5 * plain
    assert np.linalg.norm(x[:, rows] @ weight + bias - y) < 0.2 * norm


@given(st.integers(0, 500), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_widths_keep_to_what_they_may_cost(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    costs = {str(i): [*np.sort(random.random(5))[::-1].tolist(), 0.0] for i in range(4)}
    losses = {key: np.sort(random.random(6)).tolist() for key in costs}
    whole = sum(items[0] for items in costs.values())
    picks = allocate(losses, costs, share * whole)
    assert sum(costs[key][pick] for key, pick in picks.items()) <= share * whole * 1.01 + 1e-9
    uniform = [sum(costs[key][i] for key in costs) <= share * whole * 0.99 for i in range(6)]
    best = sum(losses[key][pick] for key, pick in picks.items())
    for index, fits in enumerate(uniform):
        assert not fits or best <= sum(losses[key][index] for key in losses) + 1e-9


def test_shares_of_the_operations_go(bert: ir.Model, executor: Executor) -> None:
    feeds = made_up(bert)
    for share in (0.2, 0.5):
        model = bert.clone()
        outcome = Prune(share).apply(model, context(bert, executor, feeds))
        before, after = (
            sum(getattr(row, name) for row in outcome.pruned)
            for name in ("flops_before", "flops_after")
        )
        assert 1 - after / before >= share - 0.01
        assert Signature.of(bert).difference(Signature.of(model)) == ""
        assert difference(bert, model, feeds) < 1.0


def test_repair_beats_the_same_cut_without_it(bert: ir.Model, executor: Executor) -> None:
    feeds = made_up(bert)
    model = bert.clone()
    outcome = Prune(0.4).apply(model, context(bert, executor, feeds))
    widths_ = {row.site: row.after for row in outcome.pruned}
    choice = {site.key: largest(site, widths_[site.key]) for site in find_sites(bert)[0]}
    assert difference(bert, model, feeds) < difference(bert, cut(bert, choice), feeds)


def largest(site: Site, width: int) -> tuple[int, ...]:
    """The units with the largest weights behind them."""
    weight = np.hstack([matrix_of(product) for product in site.readers])
    norms = (weight.reshape(site.units, -1) ** 2).sum(1)
    return tuple(sorted(np.argsort(-norms)[:width].tolist()))


def test_the_same_seed_gives_the_same_model(bert: ir.Model, executor: Executor) -> None:
    feeds = made_up(bert)
    first, second = bert.clone(), bert.clone()
    for model in (first, second):
        Prune(0.3).apply(model, context(bert, executor, feeds))
    assert ir.to_proto(first).SerializeToString() == ir.to_proto(second).SerializeToString()


def test_without_data_nothing_is_done(bert: ir.Model) -> None:
    outcome = Prune().apply(bert.clone(), make_context(ruled))
    assert (outcome.rewrites, outcome.detail) == (0, NO_DATA)


def test_a_model_without_hidden_channels_is_left_alone(executor: Executor) -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", 8])
    b.output(b.linear("x", "y", 8, 8), TensorProto.FLOAT, ["rows", 8])
    model = b.model()
    outcome = Prune().apply(model, context(model, executor, made_up(model)))
    assert (outcome.rewrites, outcome.detail) == (0, NO_SITE)


def test_widths_are_multiples_and_heads(bert: ir.Model) -> None:
    for site in find_sites(bert)[0]:
        found = widths(site)
        assert found[0] == site.units
        assert found == sorted(found, reverse=True)
