"""Jobs by themselves, whatever happens to them: laws, on random courses of events."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.optimizer.errors import BurnishError, DeadlineExceeded, UsageError, WorkerFailed
from burnish.runtimes.workers.jobs import Jobs
from burnish.runtimes.workers.joining import Joiner
from burnish.runtimes.workers.memory import Entry, get, put
from burnish.runtimes.workers.requests import Port, Request, Route, Step, Task

ROUTE = Route(
    (
        Step("a", ("x",), ("p",)),
        Step("b", ("x",), ("q",)),
        Step("c", ("p", "q"), ("y", "z")),
    ),
    (Port("x"),),
    (Port("y"), Port("z")),
)
"""Two branches, and what joins them: y is 5 x, z is 6 x."""


def compute(model: str, feed: dict[str, Any]) -> dict[str, Any]:
    if model == "c":
        return {"y": feed["p"] + feed["q"], "z": 2 * feed["q"]}
    return {"p": 2 * feed["x"]} if model == "a" else {"q": 3 * feed["x"]}


class Course:
    """Jobs, and tasks that workers would have."""

    def __init__(self, shared: bool, joined: bool) -> None:
        joiners = {"m": Joiner(3, {}, {})} if joined else {}
        self.jobs, self.tasks = Jobs({"m": ROUTE}, joiners, shared=shared), list[Any]()
        self.requests: list[Request] = []
        self.told: list[int] = []

    def ask(self, rows: int, outputs: tuple[str, ...]) -> None:
        number = len(self.requests)
        request = Request("m", {"x": np.full((rows, 2), number + 1.0)}, outputs)
        request.end, request.span = float(10 + number), 1.0
        request.future.add_done_callback(lambda _: self.told.append(number))
        self.requests.append(request)
        self.jobs.add(request)

    def start(self) -> None:
        self.jobs.drop_answered()
        self.jobs.admit()
        if self.jobs.ready:
            job, step = self.jobs.ready.pop(0)
            self.tasks.append(self.jobs.start(job, step))

    def finish(self, error: Exception | None = None) -> None:
        if self.tasks:
            task, feed = self.tasks.pop(0)
            self.jobs.finish(task, error or self._result(task, feed))

    def _result(self, task: Task, feed: dict[str, Any]) -> dict[str, Any]:
        entries = [value for value in feed.values() if isinstance(value, Entry)]
        if entries:
            feed = get(entries, {region.number: region for region in task.given})
        found = compute(task.model, feed)
        found = {name: found[name] for name in task.outputs}
        if task.out is None:
            return found
        return {entry.name: entry for entry in put(found, task.out)}

    def lose(self, computed: bool) -> None:
        if self.tasks:
            task, _ = self.tasks.pop(0)
            self.jobs.lose(task, WorkerFailed("it died"), computed=computed)

    def settle(self) -> None:
        while self.tasks or self.jobs.ready or self.jobs.waiting:
            self.start()
            self.finish()


EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 2), st.sampled_from([("y",), ("z",), ("z", "y")])),
    st.tuples(st.just("start")),
    st.tuples(st.just("finish")),
    st.tuples(st.just("wrong")),
    st.tuples(st.just("lose"), st.booleans()),
    st.tuples(st.just("expire"), st.integers(8, 14)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.booleans(), st.lists(EVENTS, max_size=40))
def test_every_request_is_answered_once_and_all_memory_is_free_again(
    shared: bool, joined: bool, events: list[Any]
) -> None:
    course = Course(shared, joined)
    for name, *details in events:
        if name == "ask":
            course.ask(*details)
        elif name == "start":
            course.start()
        elif name == "finish":
            course.finish()
        elif name == "wrong":
            course.finish(UsageError("the feed is wrong"))
        elif name == "lose":
            course.lose(*details)
        elif name == "expire":
            course.jobs.expire(float(*details))
        elif name == "cancel" and details[0] < len(course.requests):
            course.requests[details[0]].future.cancel()
    course.settle()
    assert sorted(course.told) == list(range(len(course.requests)))
    for number, request in enumerate(course.requests):
        if request.future.cancelled():
            continue
        if (error := request.future.exception()) is not None:
            assert isinstance(error, UsageError | WorkerFailed | DeadlineExceeded)
            continue
        rows = request.feed["x"].shape[0]
        for output, array in zip(request.outputs, request.future.result(), strict=True):
            right = (number + 1.0) * {"y": 5, "z": 6}[output]
            np.testing.assert_array_equal(array, np.full((rows, 2), right))
    assert not course.jobs.jobs and not course.jobs.ready
    assert len(course.jobs._free) == len(course.jobs._regions)
    course.jobs.close()


def test_what_kills_its_worker_twice_gets_an_error_and_its_mates_do_not() -> None:
    """Joined to others it takes them along once; by itself once more."""
    course = Course(shared=False, joined=True)
    for _ in range(3):
        course.ask(1, ("y",))
    course.start()
    assert len(course.tasks[0][0].job.requests) == 3
    course.lose(computed=True)
    poison = course.requests[1]
    for _ in range(40):
        course.start()
        if course.tasks and course.tasks[0][0].job.requests == [poison]:
            course.lose(computed=True)
        else:
            course.finish()
    error = poison.future.exception(timeout=0)
    assert isinstance(error, BurnishError) and "so did the one that had the request" in str(error)
    assert [request.future.exception(timeout=0) for request in course.requests[::2]] == [None] * 2
