"""Ratios of paired blocks, on numbers instead of clocks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import LIMITS
from samples import Builder

from burnish.optimizer.measure import Contest, Entrant, timing
from burnish.runtimes import work
from burnish.runtimes.arrays import write_arrays


def test_a_constant_ratio_has_no_spread() -> None:
    found = timing([0.2] * 7, [0.1] * 7)
    assert (found.speedup, found.low, found.high, found.pairs) == (2.0, 2.0, 2.0, 7)
    assert (found.baseline_ms, found.candidate_ms) == (200.0, 100.0)


def test_the_ratio_is_that_within_pairs() -> None:
    """A machine that slows down by half on the way changes no ratio."""
    drift = np.linspace(1, 2, 9)
    found = timing(0.3 * drift, 0.2 * drift)
    assert found.speedup == pytest.approx(1.5)
    assert found.high - found.low < 1e-9


def test_one_disturbed_pair_does_not_move_the_median() -> None:
    baseline = [0.1] * 9
    baseline[4] = 5.0
    found = timing(baseline, [0.1] * 9)
    assert found.speedup == 1.0
    assert found.low == 1.0


def test_noise_without_a_difference_has_one_in_the_interval() -> None:
    random = np.random.default_rng(5)
    found = [timing(*random.normal(0.1, 0.01, (2, 15))) for _ in range(40)]
    assert all(item.low <= item.speedup <= item.high for item in found)
    assert sum(item.low <= 1.0 <= item.high for item in found) >= 34


def test_a_slower_candidate_is_below_one() -> None:
    found = timing([0.1, 0.11, 0.1, 0.12, 0.1, 0.11, 0.1], [0.2] * 7)
    assert found.high < 1.0


def test_the_interval_is_a_function_of_the_times() -> None:
    times = np.random.default_rng(0).uniform(0.1, 0.2, (2, 9))
    assert timing(*times) == timing(*times)


def test_more_pairs_give_a_narrower_interval() -> None:
    random = np.random.default_rng(1)
    few, many = (
        timing(random.normal(1, 0.05, count), random.normal(1, 0.05, count)) for count in (8, 400)
    )
    assert many.high - many.low < few.high - few.low


class Told(Contest):
    """Whose child tells these times."""

    def _block(self, name: str, entrant: Entrant, runs: int) -> dict[str, Any]:
        return {"seconds": [0.25, 0.5, 30.0], "undisturbed": 0.125}


@pytest.mark.parametrize(("undisturbed", "seconds"), [(False, 0.5), (True, 0.125)])
def test_which_time_a_block_has(undisturbed: bool, seconds: float) -> None:
    entrant = Entrant(Path("x"), Path("y"))
    turns = Told("a:b", LIMITS, undisturbed=undisturbed).turns({"a": entrant, "b": entrant})
    assert next(turns) == {"a": seconds, "b": seconds}
    assert list(next(turns)) == ["b", "a"]


@pytest.mark.parametrize("waited", [-1.0, 1e9], ids=["some", "more than there was"])
def test_the_time_without_waiting_for_a_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waited: float
) -> None:
    """What the system says of waiting is taken off the time of a block (here it gives a second)."""
    builder = Builder()
    builder.input("x", onnx.TensorProto.FLOAT, [2])
    builder.op("Relu", ["x"], "y")
    builder.output("y", onnx.TensorProto.FLOAT, [2])
    onnx.save(builder.message(), tmp_path / "model.onnx")
    write_arrays(tmp_path / "feed", {"x": np.zeros(2, np.float32)})
    order = {"path": str(tmp_path / "model.onnx"), "feeds": str(tmp_path / "feed"), "runs": 4}
    order |= {"provider": "cpu", "threads": 1}
    told: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(json.dumps(order) + "\n"))
        patch.setattr(work, "_waited", iter([0.0, waited]).__next__)
        work.stopwatch({}, told.append)
    (report,) = told
    assert len(report["seconds"]) == 4
    if waited < 0:
        assert report["undisturbed"] * 4 >= 1.0 + sum(report["seconds"])
    else:
        assert report["undisturbed"] > 0.0


def test_waiting_only_grows() -> None:
    first = work._waited()
    assert 0.0 <= first <= work._waited()
