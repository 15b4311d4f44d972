"""The numbers: scales, rounding, storage."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from burnish.passes.compress.int8 import weights


def _matrix(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def test_a_scale_is_the_largest_magnitude_over_127() -> None:
    matrix = np.array([[1.27, 0.5], [-0.5, -2.54]], np.float32)
    np.testing.assert_allclose(weights.channel_scales(matrix, 1), [0.01, 0.02], rtol=1e-6)
    np.testing.assert_allclose(weights.channel_scales(matrix, 0), [0.01, 0.02], rtol=1e-6)


def test_a_channel_of_zeros_has_scale_one() -> None:
    matrix = np.array([[0, 1], [0, -1]], np.float32)
    scales = weights.channel_scales(matrix, 1)
    assert scales[0] == 1
    assert not weights.round_to_int8(matrix, scales, 1)[:, 0].any()


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 1e-38, 1e-37])
def test_channels_of_denormal_numbers_stay_finite(tiny: float) -> None:
    matrix = np.full((3, 1), tiny, np.float32)
    scales = weights.channel_scales(matrix, 1)
    values = weights.round_to_int8(matrix, scales, 1)
    assert np.isfinite(scales).all()
    assert (np.abs(values * scales - matrix) <= max(tiny, scales[0] / 2)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, 1])
def test_refuses_what_is_not_finite(bad: float, axis: int) -> None:
    matrix = _matrix(4, 5)
    matrix[2, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        weights.channel_scales(matrix, axis)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_error_is_at_most_half_a_step(axis: int) -> None:
    matrix = _matrix(64, 48) * np.geomspace(1e-6, 1e6, 48, dtype=np.float32)
    scales = weights.channel_scales(matrix, axis)
    values = weights.round_to_int8(matrix, scales, axis)
    steps = scales[:, None] if axis == 0 else scales[None, :]
    assert np.abs(values).max() == 127
    assert (np.abs(values * steps - matrix) <= steps * 0.5001).all()


def test_halves_round_to_even() -> None:
    matrix = np.array([[127.0], [0.5], [1.5], [2.5], [-0.5], [-1.5]], np.float32)
    values = weights.round_to_int8(matrix, weights.channel_scales(matrix, 1), 1)
    assert values[:, 0].tolist() == [127, 0, 2, 2, 0, -2]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = _matrix(37, 11)
    for axis in (0, 1):
        whole = weights.channel_scales(matrix, axis)
        rounded = weights.round_to_int8(matrix, whole, axis)
        with monkeypatch.context() as patch:
            patch.setattr(weights, "CHUNK", 40)
            np.testing.assert_array_equal(weights.channel_scales(matrix, axis), whole)
            np.testing.assert_array_equal(weights.round_to_int8(matrix, whole, axis), rounded)


def test_operands_side_by_side_equal_operands_alone() -> None:
    first, second = ir.tensor(_matrix(8, 5)), ir.tensor(_matrix(3, 8, seed=1))
    merged = weights.operand([(first, False), (second, True)])
    alone = weights.operand([(first, False)]), weights.operand([(second, True)])
    np.testing.assert_array_equal(
        merged.values.numpy(), np.concatenate([item.values.numpy() for item in alone], axis=1)
    )
    np.testing.assert_array_equal(merged.scales, np.concatenate([item.scales for item in alone]))
    assert merged.values.shape.numpy() == (8, 8)


def test_transposed_storage_gives_the_same_operand() -> None:
    matrix = _matrix(6, 4)
    plain = weights.operand([(ir.tensor(matrix), False)])
    stored = weights.operand([(ir.tensor(np.ascontiguousarray(matrix.T)), True)])
    np.testing.assert_array_equal(plain.values.numpy(), stored.values.numpy())
    np.testing.assert_array_equal(plain.scales, stored.scales)


def test_a_table_has_a_scale_per_row() -> None:
    matrix = _matrix(9, 4)
    made = weights.table(ir.tensor(matrix), saturating=False)
    assert made.scales.shape == (9,)
    error = np.abs(made.values.numpy() * made.scales[:, None] - matrix)
    assert (error <= made.scales[:, None] * 0.5001).all()


def test_values_are_computed_when_asked_and_not_kept() -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.ones((2, 2), np.int8)

    tensor = weights.lazy((2, 2), compute)
    assert tensor.nbytes == 4
    assert not calls
    assert tensor.tobytes() == tensor.tobytes() == b"\1\1\1\1"
    assert len(calls) == 2
