"""Units that go by how large their activations are: quicker, and for layers too wide to solve."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up
from samples import encoder
from test_prune import context, difference, recovered

from burnish.optimizer.analysis.channels.sites import find_sites
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.executor import Executor
from burnish.passes.compress.pruning import layers
from burnish.passes.compress.pruning.cutting import matrix_of
from burnish.passes.compress.pruning.diagonal import Diagonal, Sums
from burnish.passes.compress.pruning.prune import Prune


@pytest.fixture(scope="module")
def bert() -> ir.Model:
    return recovered(ir.from_proto(encoder(layers=2, width=32, heads=4)))


def independent(rows: int, k: int, n: int) -> tuple[Sums, np.ndarray, np.ndarray, np.ndarray]:
    """Sums for a layer whose inputs have nothing to do with each other, and x, weight, y."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, k)) * np.geomspace(1, 0.1, k) + random.standard_normal(k)
    weight = random.standard_normal((k, n)).astype(np.float32)
    y = (x @ weight + 1).astype(np.float32)
    sums = Sums(k, n)
    for start in range(0, rows, 37):
        sums.add(x[start : start + 37].astype(np.float32), y[start : start + 37])
    return sums, x, weight, y


def test_what_is_lost_is_foretold_where_inputs_are_independent() -> None:
    sums, x, weight, y = independent(20000, 12, 5)
    fit = Diagonal(sums.about(mean=True), weight, np.ones(5))
    units = np.arange(12).reshape(-1, 2)
    order = fit.order(units)
    assert sorted(order.gone) == list(range(6))
    for count in range(1, 6):
        rows = units[list(order.kept(count))].reshape(-1)
        kept, bias = fit.solved(rows)
        np.testing.assert_array_equal(kept, weight[rows])
        lost = ((x[:, rows] @ kept + bias - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
        assert order.lost[6 - count] == pytest.approx(lost, abs=0.02)
        assert fit.lost(rows) == pytest.approx(lost, abs=0.02)
        np.testing.assert_allclose((x[:, rows] @ kept + bias).mean(0), y.mean(0), atol=1e-3)
    assert order.lost[0] == 0.0
    assert fit.lost(np.zeros(0, np.int64)) == 1.0


def test_a_layer_that_adds_nothing_gets_no_bias() -> None:
    sums, _, weight, _ = independent(500, 12, 5)
    _, bias = Diagonal(sums.about(mean=False), weight, np.ones(5)).solved(np.arange(6))
    assert not bias.any()


def test_rows_that_are_no_numbers_are_refused() -> None:
    sums = Sums(2, 1)
    with pytest.raises(UnsupportedModel):
        sums.about(mean=True)
    sums.add(np.full((1, 2), np.nan, np.float32), np.zeros((1, 1), np.float32))
    with pytest.raises(UnsupportedModel):
        sums.about(mean=True)


def test_weights_that_stay_are_those_that_were(bert: ir.Model, executor: Executor) -> None:
    model, feeds = bert.clone(), made_up(bert)
    outcome = Prune(0.4, quick=True).apply(model, context(bert, executor, feeds))
    assert all(row.sizes is None and row.rank is None for row in outcome.pruned)
    work = [sum(getattr(row, f"flops_{name}") for row in outcome.pruned)
            for name in ("before", "after")]  # fmt: skip
    assert 0.39 < 1 - work[1] / work[0] < 0.6
    stayed = {row.tobytes() for site in find_sites(bert)[0] for row in matrix_of(site.readers[0])}
    for site in find_sites(model)[0]:
        assert {row.tobytes() for row in matrix_of(site.readers[0])} <= stayed
    exact = bert.clone()
    Prune(0.4, factors=False).apply(exact, context(bert, executor, feeds))
    assert difference(bert, exact, feeds) < difference(bert, model, feeds)


def test_layers_too_wide_to_solve_are_pruned_all_the_same(
    bert: ir.Model, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "WIDEST", 40)
    model, feeds = bert.clone(), made_up(bert)
    outcome = Prune(0.4).apply(model, context(bert, executor, feeds))
    assert {row.kind for row in outcome.pruned if row.after < row.before} >= {"channels"}
    assert "weights make up for nothing: 2" in outcome.detail
    assert difference(bert, model, feeds) < 1.0
