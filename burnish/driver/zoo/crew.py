"""Jobs side by side: as many as the budget of memory and the number of places allow.

Each job is a thread of this process that supervises sandboxed children. The one that needs most
goes first, and smaller ones fill what is left beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from burnish.driver.zoo.jobs import Job
from burnish.optimizer.processes import children, kill_tree, runs_module
from burnish.optimizer.turns import CHILD

Result = TypeVar("Result")

LOOK = 0.1
"""Seconds between two looks for children that have been born since."""


def done_by(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    *,
    budget: int,
    places: int,
    stop: Callable[[], None] = lambda: None,
) -> Generator[tuple[Job, Result]]:
    """Do the jobs; each with what came of it, as they end.

    Two jobs with one key are done one after the other. Where the caller leaves early, or is
    interrupted, all children are ended.

    Args:
        jobs: none needs more than the budget.
        work: raises nothing that is the job's fault.
        budget: bytes that all that run at a time need together.
        places: jobs at a time.
        stop: ends what jobs do elsewhere than in children of this process.
    """
    waiting = sorted(jobs, key=lambda job: (-job.need, job.index))
    running: dict[Future[Result], Job] = {}
    with ThreadPoolExecutor(places) as pool:
        try:
            while waiting or running:
                for job in _next(waiting, list(running.values()), budget, places):
                    waiting.remove(job)
                    running[pool.submit(work, job)] = job
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        finally:
            _end(running, stop)


def _next(
    waiting: Sequence[Job], running: Sequence[Job], budget: int, places: int
) -> Iterator[Job]:
    """The waiting jobs that can begin now."""
    free = budget - sum(job.need for job in running)
    places -= len(running)
    busy = {job.key for job in running}
    for job in list(waiting):
        if places > 0 and job.need <= free and job.key not in busy:
            free, places = free - job.need, places - 1
            busy.add(job.key)
            yield job


def _end(running: dict[Future[Result], Job], stop: Callable[[], None]) -> None:
    """End the children of jobs that are left until their threads have noticed."""
    left = {future for future in running if not future.cancel()}
    while left:
        stop()
        for pid in children(os.getpid()):
            if runs_module(pid, CHILD):
                kill_tree(pid)
        _, left = wait(left, LOOK)
