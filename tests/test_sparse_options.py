"""`--low-rank` and `--sparse-storage` as a user gives them, and pruned weights without asking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from samples import encoder
from test_cli import report_of, step

RANDOM = np.random.default_rng(0)


def changed(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """An encoder whose feed-forward weights are others."""
    message = encoder(width=128, vocabulary=512)
    for tensor in message.graph.initializer:
        if tensor.name.endswith((".up.weight", ".down.weight")):
            array = change(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(message, path)
    return path


def pruned(weight: np.ndarray) -> np.ndarray:
    return weight * (RANDOM.random(weight.shape) < 0.1)


def of_low_rank(weight: np.ndarray) -> np.ndarray:
    left, sizes, right = np.linalg.svd(weight)
    sizes[20:] *= 0.05
    return (left[:, : len(sizes)] * sizes) @ right[: len(sizes)]


def test_sparse_storage(tmp_path: Path) -> None:
    model = changed(tmp_path / "model.onnx", pruned)
    plain = report_of(model, "--no-measure", "-o", tmp_path / "plain.onnx")
    report = report_of(model, "--no-measure", "--sparse-storage")
    assert step(report, "sparse-storage")["rewrites"] == 4
    assert step(report, "sparse-storage")["error"] == 0.0
    assert report["output"]["bytes"] < 0.7 * plain["output"]["bytes"]
    assert report["fidelity"]["drop"] < 1e-6


def test_sparse_storage_of_dense_weights_says_why_not(tmp_path: Path) -> None:
    model = changed(tmp_path / "model.onnx", lambda weight: weight)
    report = report_of(model, "--no-measure", "--sparse-storage")
    assert step(report, "sparse-storage")["status"] == "unchanged"
    assert "sparse-storage has no effect: no weight has zeros enough" in report["warnings"]


def test_low_rank_keeps_to_the_budget(tmp_path: Path) -> None:
    model = changed(tmp_path / "model.onnx", of_low_rank)
    report = report_of(model, "--no-measure", "--low-rank", "--max-drop", "0.2")
    assert step(report, "low-rank")["rewrites"] == 4
    assert 1e-5 < report["fidelity"]["drop"] < 0.2
    report = report_of(model, "--no-measure", "--low-rank", "--max-drop", "0", code=1)
    assert step(report, "low-rank")["status"] == "rejected"
    assert "where the budget is 0" in step(report, "low-rank")["reason"]


def test_nothing_but_low_rank_is_asked_for(tmp_path: Path) -> None:
    model = changed(tmp_path / "model.onnx", of_low_rank)
    names = [item["name"] for item in report_of(model, "--no-measure")["passes"]]
    assert "low-rank" not in names
    assert "sparse-storage" not in names
    assert "sparse-weights" in names


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_channels_that_are_pruned_go_without_asking(tmp_path: Path, share: float) -> None:
    def without_channels(weight: np.ndarray) -> np.ndarray:
        gone = int(max(weight.shape) * share)
        return (
            np.where(np.arange(weight.shape[1]) < gone, 0, weight)
            if weight.shape[1] > 128
            else weight
        )

    model = changed(tmp_path / "model.onnx", without_channels)
    report = report_of(model, "--no-measure")
    assert step(report, "sparse-weights")["status"] == "kept"
    assert report["fidelity"]["drop"] < 1e-6
