"""Rounding by error feedback: better products than rounding to the nearest, on the same grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from burnish.passes.compress import correlations
from burnish.passes.compress.error_feedback import Feedback, Grid, rounded


def correlated(rows: int, k: int, seed: int) -> np.ndarray:
    """Activations whose channels go together, and a few of which are large."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((k // 4, k))
    x = random.standard_normal((rows, k // 4)) @ mixing + 0.3 * random.standard_normal((rows, k))
    x[:, ::16] *= 6
    return x.astype(np.float32)


def grid_of(matrix: np.ndarray, bits: int, size: int) -> Grid:
    top = 2 ** (bits - 1) - 1
    blocks = matrix.reshape(-1, size, matrix.shape[1])
    return Grid(np.abs(blocks).max(axis=1) / top, 0, size, -top, top)


def to_nearest(matrix: np.ndarray, grid: Grid) -> np.ndarray:
    return np.stack([grid.codes(row, matrix[row]) for row in range(len(matrix))])


def decoded(codes: np.ndarray, grid: Grid) -> np.ndarray:
    return np.stack([grid.values(row, codes[row]) for row in range(len(codes))])


@pytest.mark.parametrize(("bits", "size"), [(8, 192), (4, 192), (4, 32)])
@pytest.mark.parametrize("rows", [96, 1000], ids=["fewer rows than channels", "more"])
def test_products_on_other_rows_are_closer(bits: int, size: int, rows: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((192, 40)).astype(np.float32)
    grid = grid_of(matrix, bits, size)
    codes = rounded(matrix, Feedback(correlated(rows, 192, 1)), grid)
    assert codes.min() >= grid.low
    assert codes.max() <= grid.high
    others = correlated(500, 192, 2)
    exact = others @ matrix
    feedback = np.linalg.norm(others @ decoded(codes, grid) - exact)
    nearest = np.linalg.norm(others @ decoded(to_nearest(matrix, grid), grid) - exact)
    assert feedback < 0.7 * nearest


def test_a_divided_activation_needs_no_other_factor() -> None:
    matrix = np.random.default_rng(0).standard_normal((192, 40)).astype(np.float32)
    by = np.exp2(np.random.default_rng(1).uniform(-2, 2, 192)).astype(np.float32)
    x, others = correlated(1000, 192, 1), correlated(500, 192, 2) / by
    scaled = matrix * by[:, None]
    grid = grid_of(scaled, 4, 32)

    def error(feedback: Feedback) -> float:
        found = decoded(rounded(scaled, feedback, grid), grid)
        return float(np.linalg.norm(others @ (found - scaled)))

    assert error(Feedback(x, by)) < 1.05 * error(Feedback(x / by))
    assert error(Feedback(x, by)) < 0.8 * error(Feedback(x))


def test_the_loss_that_it_foresees_is_the_one_it_has() -> None:
    matrix = np.random.default_rng(0).standard_normal((192, 40)).astype(np.float32)
    x, grid = correlated(4000, 192, 1), grid_of(matrix, 4, 192)
    feedback = Feedback(x)
    near, fed = (
        decoded(codes, grid) - matrix
        for codes in (to_nearest(matrix, grid), rounded(matrix, feedback, grid))
    )
    damping = correlations.DAMPING * (x**2).sum() / 192

    def loss(errors: np.ndarray) -> float:
        return float(((x @ errors) ** 2).sum() + damping * (errors**2).sum())

    assert 0.9 < loss(fed) / feedback.loss(near) < 1.1
    assert loss(near) > 1.3 * feedback.loss(near)


def test_without_correlations_it_is_the_nearest() -> None:
    matrix = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    grid = grid_of(matrix, 8, 32)
    codes = rounded(matrix, Feedback(np.eye(32, dtype=np.float32)), grid)
    np.testing.assert_array_equal(codes, to_nearest(matrix, grid))


def test_channels_that_are_never_used_are_no_trouble() -> None:
    matrix = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    x = correlated(100, 32, 0)
    x[:, 5] = 0
    grid = grid_of(matrix, 4, 32)
    assert np.isfinite(decoded(rounded(matrix, Feedback(x), grid), grid)).all()
    assert np.isfinite(decoded(rounded(matrix, Feedback(np.zeros_like(x)), grid), grid)).all()


def test_columns_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 50)).astype(np.float32)
    x, grid = correlated(200, 64, 0), grid_of(matrix, 4, 16)
    whole = rounded(matrix, Feedback(x), grid)
    monkeypatch.setattr("burnish.passes.compress.error_feedback.COLUMNS", 7)
    np.testing.assert_array_equal(rounded(matrix, Feedback(x), grid), whole)


def test_neighbours_of_one_sign_add_up_to_no_more_than_they_may() -> None:
    """The first of a pair to be rounded may grow by what was handed on; the other one gives in."""
    matrix = np.random.default_rng(0).standard_normal((65, 40)).astype(np.float32)
    x, free = correlated(500, 65, 1), grid_of(matrix, 8, 65)
    grid = replace(free, pair=100)
    codes = rounded(matrix, Feedback(x), grid)
    first, second = codes[:-1:2], codes[1::2]
    assert (np.maximum(first, 0) + np.maximum(second, 0)).max() == 100
    assert (np.minimum(first, 0) + np.minimum(second, 0)).min() == -100
    whole = rounded(matrix, Feedback(x), free)
    assert (np.maximum(whole[:-1:2], 0) + np.maximum(whole[1::2], 0)).max() > 150
    exact = x @ matrix
    errors = [np.linalg.norm(x @ decoded(item, grid) - exact) for item in (whole, codes)]
    assert errors[1] < np.linalg.norm(x @ decoded(codes.clip(-50, 50), grid) - exact)
