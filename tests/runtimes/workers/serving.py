"""The tagger, feeds for it, and what it gives, for tests of workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from burnish.runtimes.workers.service import Service

TAGGER = Path(__file__).parents[3] / "examples" / "tagger" / "model.onnx"

Feed = dict[str, Any]


def feeds(count: int, rows: int = 1, longest: int = 60, seed: int = 0) -> list[Feed]:
    """Feeds of random lengths, some of them padded."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(random.integers(4, longest))
        mask = np.ones((rows, length), np.int64)
        mask[:, length - int(random.integers(0, 3)) :] = 0
        found.append({"input_ids": random.integers(0, 1000, mask.shape), "attention_mask": mask})
    return found


@cache
def _session() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(TAGGER, options)


def expected(given: list[Feed]) -> list[Any]:
    """The logits of each."""
    return [_session().run(None, feed)[0] for feed in given]


def pids(service: Service) -> list[int]:
    """The processes of its workers."""
    return [row["pid"] for row in service.told()]


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that has to happen."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd"))
