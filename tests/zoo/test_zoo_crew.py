"""Jobs side by side: within the budget, one at a time for one key, and ended when interrupted."""

from __future__ import annotations

import os
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from burnish.driver.request import Request
from burnish.driver.zoo import crew
from burnish.driver.zoo.crew import done_by
from burnish.driver.zoo.jobs import Job
from burnish.driver.zoo.members import Member
from burnish.optimizer import sandbox


def job(index: int, need: int, key: str = "") -> Job:
    member = Member(f"{index}", Path(f"{index}"))
    return Job(index, member, {}, Request("x"), Path("x"), {}, need=need, key=key or str(index))


class Work:
    """Notes how much runs at a time."""

    def __init__(self, least: int) -> None:
        self.lock = threading.Lock()
        self.running: list[Job] = []
        self.seen: list[list[Job]] = []
        self.order: list[int] = []
        self.met = threading.Barrier(least)

    def __call__(self, job: Job) -> int:
        with self.lock:
            self.running.append(job)
            self.seen.append(list(self.running))
            self.order.append(job.index)
        if self.met.parties > 1:
            self.met.wait(10)
        with self.lock:
            self.running.remove(job)
        return job.index


def test_two_fit_side_by_side_and_the_largest_goes_first() -> None:
    jobs = [job(0, 2), job(1, 6), job(2, 4), job(3, 8)]
    work = Work(least=2)
    found = dict((one.index, result) for one, result in done_by(jobs, work, budget=10, places=2))
    assert found == {index: index for index in range(4)}
    assert work.order[0] == 3
    assert max(len(seen) for seen in work.seen) == 2
    assert all(sum(one.need for one in seen) <= 10 for seen in work.seen)


def test_one_place_is_one_at_a_time() -> None:
    work = Work(least=1)
    assert len(list(done_by([job(i, 1) for i in range(5)], work, budget=10, places=1))) == 5
    assert all(len(seen) == 1 for seen in work.seen)


def test_the_same_work_is_not_done_twice_at_once() -> None:
    work = Work(least=1)
    jobs = [job(index, 1, key="same") for index in range(4)]
    assert len(list(done_by(jobs, work, budget=10, places=4))) == 4
    assert all(len(seen) == 1 for seen in work.seen)


def test_an_interrupt_ends_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[1] / "optimizer"
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    started = threading.Event()
    ended: list[str] = []

    def work(one: Job) -> int:
        limits = sandbox.Limits(1 << 30, 600)
        try:
            sandbox.call("sandbox_targets:sleep", {}, limits, lambda event: started.set())
        except Exception as error:
            ended.append(type(error).__name__)
        return 0

    calls: list[int] = []

    def interrupted(*rest: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            started.wait(30)
            raise KeyboardInterrupt
        return futures.wait(*rest, **options)

    monkeypatch.setattr(crew, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(done_by([job(0, 1), job(1, 2)], work, budget=2, places=2))
    assert ended == ["ResourceLimit"]
