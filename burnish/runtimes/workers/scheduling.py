"""Who does what next: each task goes to the worker that is expected to be done with it first.

That is least outstanding work, in seconds: what a worker has, and what a unit of work takes it. So
an uneven worker gets an uneven load, and a task may wait for a fast one while a slow one is free.
"""

from __future__ import annotations

from collections.abc import Iterable

from burnish.runtimes.workers.requests import Job
from burnish.runtimes.workers.worker import DOWN, READY, Worker

OLD = 1.0
"""Seconds without work after which half of what makes a worker slow is forgotten."""

STARTING = 1.0
"""Seconds that a worker is expected to need until it is ready again."""


class Loads:
    """What each worker has to do, in seconds; changed as tasks are promised."""

    def __init__(self, workers: Iterable[Worker], now: float) -> None:
        self.workers, self._now = list(workers), now
        self._best: dict[str, float] = {}
        self._loads = {id(worker): self._load(worker) for worker in self.workers}

    def choose(self, job: Job, model: str, without: Worker | None = None) -> Worker | None:
        """The worker that is expected to be done with a step first; it is promised the task.

        None where all that have the model are down.
        """
        pinned = job.requests[0].pinned.get(model)
        able = [
            worker
            for worker in self.workers
            if model in worker.models
            and worker.state != DOWN
            and worker is not without
            and pinned in (None, worker.name)
        ]
        if not able:
            return None
        costs = [job.weight * self._pace(worker, model) for worker in able]
        ends = [self._loads[id(worker)] + cost for worker, cost in zip(able, costs, strict=True)]
        best = ends.index(min(ends))
        self._loads[id(able[best])] += costs[best]
        return able[best]

    def _load(self, worker: Worker) -> float:
        starting = 0.0 if worker.state == READY else STARTING
        return starting + sum(
            task.job.weight * self._pace(worker, task.model) for task in worker.tasks
        )

    def _pace(self, worker: Worker, model: str) -> float:
        """Seconds for a unit of work; where a worker was not seen at it, the best of others.

        Nor is a slow one given up: what is known of it while it has nothing to do grows old.
        """
        if model not in self._best:
            known = [other.paces[model] for other in self.workers if model in other.paces]
            self._best[model] = min(known, default=1e-6)
        best = self._best[model]
        pace = worker.paces.get(model, best)
        if worker.tasks or pace <= best:
            return pace
        kept: float = 0.5 ** ((self._now - worker.idle) / OLD)
        return best + (pace - best) * kept
