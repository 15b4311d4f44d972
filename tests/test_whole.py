"""Whether the whole artifact stays: by its times, or as the tuning record says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.driver import whole
from burnish.optimizer.executor import Executor
from burnish.optimizer.measure import Timing
from burnish.optimizer.tuner import Tuner

FAST = Timing(2.0, 1.0, 2.0, 1.9, 2.1, 7)
ALIKE = Timing(1.0, 1.01, 0.99, 0.95, 1.03, 7)
SLOW = Timing(1.0, 1.25, 0.8, 0.75, 0.85, 7)
UNSURE = Timing(1.0, 1.25, 0.8, 0.5, 1.1, 7)


@pytest.fixture
def candidate(tmp_path: Path) -> Any:
    file = tmp_path / "made.onnx"
    file.write_bytes(b"content")
    return SimpleNamespace(files=(file,))


def bench() -> Any:
    loaded = SimpleNamespace(sha256="0" * 64)
    return SimpleNamespace(sizes=lambda: {"batch": 8}, loaded=loaded, warnings=[])


@pytest.mark.parametrize(
    ("timing", "stays"), [(FAST, True), (ALIKE, True), (SLOW, False), (UNSURE, False)]
)
def test_what_is_slower_does_not_stay(
    executor: Executor, candidate: Any, timing: Timing, stays: bool
) -> None:
    record = Tuner(None, executor, None, "cpu")
    assert whole.as_fast(bench(), record, candidate, timing) == stays


@pytest.mark.parametrize(("first", "second"), [(FAST, SLOW), (SLOW, FAST)])
def test_what_was_decided_stands_on_a_noisier_day(
    executor: Executor, candidate: Any, tmp_path: Path, first: Timing, second: Timing
) -> None:
    file = tmp_path / "tuning.json"
    decided = whole.as_fast(bench(), Tuner(None, executor, file, "cpu"), candidate, first)
    later = bench()
    again = whole.as_fast(later, Tuner(None, executor, file, "cpu"), candidate, second)
    assert again == decided == (first is FAST)
    assert len(later.warnings) == 1
    assert "the tuning record has" in later.warnings[0]
    candidate.files[0].write_bytes(b"another")
    other = whole.as_fast(bench(), Tuner(None, executor, file, "cpu"), candidate, second)
    assert other == (second is FAST)
