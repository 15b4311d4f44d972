"""Several replicas of one model: order, errors, and who gets how much."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.optimizer.errors import UsageError
from burnish.runtimes.replicas import Replicas
from burnish.runtimes.workers.service import AHEAD

TAGGER = Path(__file__).parents[2] / "examples" / "tagger" / "model.onnx"


class Slow:
    """A runtime that takes its time, and counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.runs, self.closed = seconds, 0, 0

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        self.runs += 1
        time.sleep(self.seconds)
        if feed["x"] < 0:
            raise ValueError("negative")
        return [feed["x"] * 2]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y")]

    def fallen(self) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


def test_results_are_those_of_one_session_in_order() -> None:
    random = np.random.default_rng(0)
    feeds = [
        {
            "input_ids": random.integers(0, 1000, (1, length)),
            "attention_mask": np.ones((1, length), np.int64),
        }
        for length in random.integers(1, 60, 20)
    ]
    one = burnish.load(TAGGER, threads=1)
    two = burnish.load(TAGGER, threads=1, replicas=2)
    assert [port.name for port in two.get_outputs()] == ["logits"]
    for feed, (found,) in zip(feeds, two.map(feeds), strict=True):
        np.testing.assert_array_equal(found, one.run(None, feed)[0])
    two.close()
    one.close()


def test_a_slow_replica_gets_less() -> None:
    fast, slow = Slow(0.01), Slow(0.05)
    replicas = Replicas([fast, slow])
    assert [found for (found,) in replicas.map({"x": i} for i in range(60))] == [
        2 * i for i in range(60)
    ]
    assert fast.runs + slow.runs == 60
    assert fast.runs > 2 * slow.runs
    replicas.close()
    assert (fast.closed, slow.closed) == (1, 1)


def test_an_error_comes_in_its_turn_and_feeds_only_as_there_is_room() -> None:
    taken = []

    def feeds() -> Any:
        for index in range(10**6):
            taken.append(index)
            yield {"x": -1 if index == 3 else index}

    before = threading.active_count()
    replicas = Replicas([Slow(0.0), Slow(0.0)])
    results = replicas.map(feeds())
    assert [next(results) for _ in range(3)] == [[0], [2], [4]]
    with pytest.raises(ValueError, match="negative"):
        next(results)
    assert len(taken) <= 4 + 2 * AHEAD
    assert replicas.submit({"x": 5}).result() == [10]
    replicas.close()
    assert threading.active_count() == before


def test_none_is_too_few() -> None:
    with pytest.raises(UsageError, match="no replica"):
        burnish.load(TAGGER, replicas=0)
