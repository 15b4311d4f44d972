"""Whether workers are healthy: each is given a real feed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.workers.requests import Route
from burnish.runtimes.workers.worker import READY, ProcessWorker, Worker

Run = Callable[[str, dict[str, str]], None]
"""Runs a feed of a model over one worker for each of its steps, by name."""


def checked(
    workers: Sequence[Worker], routes: Mapping[str, Route], run: Run
) -> list[dict[str, Any]]:
    """What is told of each worker, after feeds that between them have gone over all."""
    found = dict[str, dict[str, Any]]()
    for turn in range(len(workers)):
        for name, route in routes.items():
            pinned = dict[str, str]()
            for step in route.steps:
                able = [worker.name for worker in workers if step.model in worker.models]
                pinned[step.model] = able[turn % len(able)]
            if all(worker in found for worker in pinned.values()):
                continue
            start, error = time.monotonic(), ""
            try:
                run(name, pinned)
            except BurnishError as failure:
                error = failure.message
            seconds = None if error else time.monotonic() - start
            for worker in workers:
                if worker.name in pinned.values():
                    found.setdefault(worker.name, told(worker, seconds, error))
    return [found.get(worker.name, told(worker)) for worker in workers]


def told(worker: Worker, seconds: float | None = None, error: str = "") -> dict[str, Any]:
    """What is known of a worker.

    Returns:
        `name`, `pid` (None in threads), `state`, `healthy`, `seconds` until it answered (None
        where it was not asked, or did not), `error` of that, `restarts` within a minute, how it
        was `lost` the last time, and `answers` so far.
    """
    return {
        "name": worker.name,
        "pid": worker.process.pid if isinstance(worker, ProcessWorker) else None,
        "state": worker.state,
        "healthy": not error and worker.state == READY,
        "seconds": seconds,
        "error": error,
        "restarts": len(worker.lost),
        "lost": worker.error,
        "answers": worker.answers,
    }
