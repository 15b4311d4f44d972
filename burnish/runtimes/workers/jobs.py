"""Requests on their way: what waits, what is ready, what is known, and who is answered.

Only the dispatcher's thread uses it, so that a request is answered once whatever happens.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.optimizer.errors import DeadlineExceeded, WorkerFailed
from burnish.runtimes.workers.joining import Joiner
from burnish.runtimes.workers.memory import Entry, Region, copied, get, put
from burnish.runtimes.workers.requests import Job, Request, Route, Task

RETRIES = 1
"""How often a step is given out again where a worker was lost with it."""


class Jobs:
    """See the module.

    Args:
        routes: by name.
        joiners: by route; those that are missing join nothing.
        shared: whether values lie in memory that processes share.
    """

    def __init__(
        self, routes: Mapping[str, Route], joiners: dict[str, Joiner], *, shared: bool
    ) -> None:
        self.routes, self.joiners, self.shared = routes, joiners, shared
        self.waiting: deque[Request] = deque()
        self.ready: list[tuple[Job, int]] = []
        self.jobs: dict[int, Job] = {}
        self._numbers, self._orders = itertools.count(), itertools.count()
        self._ends: list[tuple[float, int, Request]] = []
        self._free: list[Region] = []
        self._regions: list[Region] = []

    def add(self, request: Request) -> None:
        """Let a request wait."""
        self.waiting.append(request)
        if request.end is not None:
            heapq.heappush(self._ends, (request.end, next(self._numbers), request))

    def next_end(self) -> float | None:
        """The first deadline that may pass; None where there is none."""
        while self._ends and self._ends[0][2].future.done():
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def expire(self, now: float) -> None:
        """Answer those whose deadline has passed."""
        expired = False
        while (end := self.next_end()) is not None and end <= now:
            request = heapq.heappop(self._ends)[2]
            error = DeadlineExceeded(f"there was no answer within {request.span:g} s")
            self.answer(request, error)
            expired = True
        if expired:  # they make room for others
            self.waiting = deque(item for item in self.waiting if not item.future.done())

    def admit(self) -> bool:
        """Make a job of the request that has waited longest, and of those that go with it.

        False where none waits.
        """
        while self.waiting and self.waiting[0].future.done():
            self.waiting.popleft()
        if not self.waiting:
            return False
        first = self.waiting.popleft()
        route, joiner = self.routes[first.route], self.joiners.get(first.route)
        requests = [first]
        if joiner is not None and not first.alone:
            mates = set(map(id, joiner.mates(first, self.waiting)))
            requests += [item for item in self.waiting if id(item) in mates]
            self.waiting = deque(item for item in self.waiting if id(item) not in mates)
        # From here on they cannot be cancelled.
        requests = [item for item in requests if item.future.set_running_or_notify_cancel()]
        if requests:
            self._begin(requests, route, joiner)
        return True

    def _begin(
        self,
        requests: list[Request],
        route: Route,
        joiner: Joiner | None,
        lost: Counter[int] | None = None,
    ) -> None:
        feed = requests[0].feed
        if joiner is not None and len(requests) > 1:
            feed = joiner.join([item.feed for item in requests])
        outputs = tuple(dict.fromkeys(name for item in requests for name in item.outputs))
        weight = max(item.weight for item in requests) * len(requests)
        job = Job(next(self._numbers), requests, weight, route.needed(outputs))
        job.values, job.lost = dict(feed), Counter(lost or {})
        self.jobs[job.number] = job
        if self.shared:
            try:
                region = self._take()
                job.regions[region.number] = region
                job.values = {entry.name: entry for entry in put(feed, region)}
            except Exception as error:  # what a feed holds is the caller's
                self._end(job, error)
                return
        self._go_on(job)

    def _go_on(self, job: Job) -> None:
        """Make ready whatever has its inputs now."""
        steps = self.routes[job.requests[0].route].steps
        at_work = {task.step for task in job.running} | job.done
        at_work |= {step for other, step in self.ready if other is job}
        for step in job.needed:
            if step not in at_work and all(name in job.values for name in steps[step].inputs):
                self.ready.append((job, step))
        self.ready.sort(key=lambda item: item[0].number)

    def start(self, job: Job, step: int) -> tuple[Task, dict[str, Any]]:
        """A task for a worker, with what it is given."""
        todo = self.routes[job.requests[0].route].steps[step]
        feed = {name: job.values[name] for name in todo.inputs}
        task = Task(next(self._orders), job, step, todo.model, job.needed[step])
        if self.shared:
            used = {value.region for value in feed.values() if isinstance(value, Entry)}
            task.given = tuple(job.regions[number] for number in sorted(used))
            task.out = self._take()
        job.running.append(task)
        return task, feed

    def finish(self, task: Task, result: Any) -> None:
        """Take in what came of a task: values by name, or an exception."""
        job = task.job
        job.running.remove(task)
        if job.number not in self.jobs or task.step in job.done:
            self._give(task.out)
        elif isinstance(result, Exception):
            self._give(task.out)
            self._blame(job, result)
        else:
            job.done.add(task.step)
            job.values |= result
            if task.out is not None:
                job.regions[task.out.number] = task.out
            if job.done >= set(job.needed):
                self._deliver(job)
            else:
                self._go_on(job)
        self._tidy(job)

    def lose(self, task: Task, error: WorkerFailed, *, computed: bool) -> None:
        """Give out again, once, what a lost worker had."""
        job = task.job
        job.running.remove(task)
        self._give(task.out)
        job.lost[task.step] += computed
        elsewhere = any(other.step == task.step for other in job.running)
        if job.number in self.jobs and task.step not in job.done and not elsewhere:
            if job.answered:
                self._end(job)
            elif len(job.requests) > 1 and computed:
                self._part(job)
            elif job.lost[task.step] > RETRIES:
                again = f"{error.message}, and so did the one that had the request before"
                self._end(job, WorkerFailed(again, place=error.place))
            else:
                self._go_on(job)
        self._tidy(job)

    def _blame(self, job: Job, error: Exception) -> None:
        """Answer with an error; of several requests, find out by themselves whose it is."""
        if len(job.requests) == 1:
            self._end(job, error)
            return
        self._part(job)

    def _part(self, job: Job) -> None:
        """Go on with each request of a job by itself."""
        self._end(job)
        for request in job.requests:
            if not request.future.done():
                request.alone = True
                self._begin([request], self.routes[request.route], None, job.lost)

    def _deliver(self, job: Job) -> None:
        outputs = tuple(dict.fromkeys(name for item in job.requests for name in item.outputs))
        values: Mapping[str, Any] = {name: job.values[name] for name in outputs}
        if self.shared:
            values = copied(get(values.values(), job.regions))
        joiner = self.joiners.get(job.requests[0].route)
        parts: Sequence[Mapping[str, Any]] = [values]
        if joiner is not None and len(job.requests) > 1:
            parts = joiner.split([item.feed for item in job.requests], values)
        for request, part in zip(job.requests, parts, strict=True):
            self.answer(request, [part[name] for name in request.outputs])
        self._end(job)

    def answer(self, request: Request, result: Any) -> None:
        """Answer a request, once."""
        future = request.future
        if future.done() or (not future.running() and not future.set_running_or_notify_cancel()):
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    def drop_answered(self) -> None:
        """Forget what is ready and nobody waits for."""
        for job in [job for job in self.jobs.values() if job.answered]:
            self._end(job)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """Forget a job; where there is an error, answer with it."""
        self.jobs.pop(job.number, None)
        self.ready = [item for item in self.ready if item[0] is not job]
        for request in job.requests if error is not None else ():
            self.answer(request, error)
        self._tidy(job)

    def fail(self, job: Job, error: Exception) -> None:
        """Answer all requests of a job with an error."""
        self._end(job, error)

    def fail_all(self, error: Exception) -> None:
        """Answer everything with an error."""
        for request in self.waiting:
            self.answer(request, error)
        self.waiting.clear()
        for job in list(self.jobs.values()):
            self._end(job, error)

    def _tidy(self, job: Job) -> None:
        """Let go of what no step and no caller will read."""
        steps, wanted = self.routes[job.requests[0].route].steps, set[str]()
        if job.number in self.jobs:
            wanted.update(name for item in job.requests for name in item.outputs)
            for step in set(job.needed) - job.done:
                wanted.update(steps[step].inputs)
        job.values = {name: value for name, value in job.values.items() if name in wanted}
        used = {value.region for value in job.values.values() if isinstance(value, Entry)}
        used |= {region.number for task in job.running for region in task.given}
        for number in set(job.regions) - used:
            self._give(job.regions.pop(number))

    def _take(self) -> Region:
        if not self._free:
            self._free.append(Region())
            self._regions.append(self._free[-1])
        return self._free.pop()

    def _give(self, region: Region | None) -> None:
        if region is not None:
            self._free.append(region)

    def close(self) -> None:
        """Give up all memory."""
        for region in self._regions:
            region.close()
        self._free.clear()
