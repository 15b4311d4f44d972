"""Gives jobs to workers, and looks after workers: one thread that decides, so that nothing races.

A worker that dies or hangs is started anew, and what it computed is given out once more. A request
that takes long has half of its deadline on one worker; then another worker is given it as well, if
one has room, and the first answer counts. A worker that has had one request for the whole of its
deadline counts as hanging.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from burnish.optimizer.errors import BurnishError, WorkerFailed, first_line, revived
from burnish.runtimes.workers.jobs import Jobs
from burnish.runtimes.workers.memory import Entry
from burnish.runtimes.workers.process import LOOK
from burnish.runtimes.workers.requests import Job, Task
from burnish.runtimes.workers.scheduling import Loads
from burnish.runtimes.workers.worker import (
    DEPTH,
    DOWN,
    OPENING,
    READY,
    ProcessWorker,
    ThreadWorker,
    Worker,
)

PATIENCE = 1.0
"""Seconds that a worker has for a request at least, before it counts as hanging."""

STUCK, LONGER = 60.0, 100.0
"""Seconds, and times as long as it should take, after which a request without a deadline counts as
one that the worker hangs at."""

LEAST = 0.005
"""Seconds between two looks at what is late, at least."""

MINUTE = 60.0

CLOSED = "it has been closed"


class Dispatcher:
    """See the module.

    Args:
        jobs: what they work on.
        restarts: how often each worker is started anew within a minute.
    """

    def __init__(self, jobs: Jobs, *, restarts: int) -> None:
        self.jobs, self._restarts = jobs, restarts
        self.workers: list[Worker] = []
        self._inbox: deque[Callable[[], None]] = deque()
        self._lock, self._closing, self._failed = threading.Lock(), False, ""
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="burnish dispatcher", daemon=True)

    def begin(self, workers: Sequence[Worker]) -> None:
        """Start with workers that are ready."""
        self.workers = list(workers)
        for worker in workers:
            if isinstance(worker, ProcessWorker):
                self._selector.register(worker.process.channel, selectors.EVENT_READ, worker)
            elif isinstance(worker, ThreadWorker):
                worker.done = self._done
        self._thread.start()

    def post(self, action: Callable[[], None]) -> None:
        """Do something in the dispatcher's thread; from any thread."""
        with self._lock:
            if self._closing:
                raise BurnishError(self._failed or CLOSED)
            self._inbox.append(action)
        self._wake_up()

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # it has been woken often enough, or has ended
            self._waker.send(b"!")

    def _done(self, worker: Worker, task: Task, result: Any) -> None:
        """What came of a task, told by a worker's own thread."""
        with contextlib.suppress(BurnishError):  # where it has been closed, nobody asks
            self.post(lambda: self._finished(worker, task, result))

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, _ in self._selector.select(self._pause()):
                    if key.data is None:
                        self._wake.recv(1 << 12)
                    elif key.data.process.channel is key.fileobj:
                        self._read(key.data)
                while self._inbox:
                    self._inbox.popleft()()
                self._watch(time.monotonic())
                self._assign(time.monotonic())
        except Exception as error:
            self._failed = f"internal error: {type(error).__name__}: {error}"
            self._closing = True
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Answer what has no answer, and free everything."""
        with self._lock:  # nothing is posted from here on
            self._closing = True
        while self._inbox:
            self._inbox.popleft()()
        self.jobs.fail_all(BurnishError(self._failed or CLOSED))
        for worker in self.workers:
            worker.close()
        self.jobs.close()
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _pause(self) -> float | None:
        """Seconds until something has to be looked at."""
        pauses = [LOOK] if any(isinstance(item, ProcessWorker) for item in self.workers) else []
        now = time.monotonic()
        if (end := self.jobs.next_end()) is not None:
            pauses.append(max(0.0, end - now))
        for worker in self.workers:
            span = worker.tasks[0].job.span if worker.tasks else None
            if span is not None:
                pauses.append(max(LEAST, span / 8))
        return min(pauses, default=None)

    def _read(self, worker: ProcessWorker) -> None:
        """Take what a process says; it may be its end."""
        channel = worker.process.channel
        try:
            alive = channel.receive()
        except OSError:
            alive = False
        while worker.process.channel is channel and (message := channel.next()) is not None:
            self._heard(worker, message)
        if not alive and worker.process.channel is channel:
            self._lost(worker, None)

    def _heard(self, worker: ProcessWorker, message: dict[str, Any]) -> None:
        if "ready" in message:
            worker.process.facts, worker.state = message["ready"], READY
        elif worker.state == OPENING:
            self._lost(worker, WorkerFailed(revived(message["error"]).message))
        elif "error" in message:
            self._finished(worker, worker.tasks[0], revived(message["error"]))
        else:
            entries = [Entry.of(item) for item in message["arrays"]]
            self._finished(worker, worker.tasks[0], {entry.name: entry for entry in entries})

    def _finished(self, worker: Worker, task: Task, result: Any) -> None:
        worker.finish(time.monotonic())
        self.jobs.finish(task, result)

    def _lost(self, worker: ProcessWorker, error: WorkerFailed | None) -> None:
        """Start a worker anew, and give out again what it had; without an error, it has died."""
        self._selector.unregister(worker.process.channel)
        death = worker.process.failed()
        error = error or death
        worker.error = error.message
        worker.lost.append(time.monotonic())
        tasks, worker.state = list(worker.tasks), DOWN
        worker.tasks.clear()
        for place, task in enumerate(tasks):
            self.jobs.lose(task, error, computed=place == 0)
        self._reopen(worker)

    def _reopen(self, worker: ProcessWorker) -> None:
        now = time.monotonic()
        while worker.lost and worker.lost[0] < now - MINUTE:
            worker.lost.popleft()
        if len(worker.lost) <= self._restarts:
            try:
                worker.reopen()
            except (OSError, BurnishError) as error:
                # The machine is short of something, or the new one is gone already.
                worker.lost.append(now)
                worker.error = f"{worker.name} did not start: {first_line(error)}"
                return
            self._selector.register(worker.process.channel, selectors.EVENT_READ, worker)

    def _watch(self, now: float) -> None:
        self.jobs.expire(now)
        for worker in self.workers:
            if worker.tasks and not worker.tasks[0].job.hedged:
                self._hedge(worker, now)
            if not isinstance(worker, ProcessWorker):
                continue
            if worker.state == DOWN:
                self._reopen(worker)
            elif worker.process.hangs():
                self._lost(worker, WorkerFailed(f"{worker.name} hangs"))
            elif worker.tasks and self._late(worker, now):
                self._lost(worker, WorkerFailed(f"{worker.name} gave no answer"))

    def _late(self, worker: Worker, now: float) -> bool:
        """Whether a worker has had a request for so long that it counts as hanging."""
        task = worker.tasks[0]
        span, pace = task.job.span, worker.paces.get(task.model)
        if span is None:
            usual = math.inf if pace is None else pace * task.job.weight
            return now - task.begun > max(STUCK, LONGER * usual)
        return now - task.begun > max(span, PATIENCE)

    def _hedge(self, worker: Worker, now: float) -> None:
        """Let a second worker try what takes the first one long."""
        task = worker.tasks[0]
        job, span = task.job, task.job.span
        if span is None or now - task.begun < span / 2 or job.number not in self.jobs.jobs:
            return
        other = Loads(self.workers, now).choose(job, task.model, without=worker)
        if other is not None and other.has_room and not job.answered:
            job.hedged = True
            self._give(other, job, task.step, now)

    def _assign(self, now: float) -> None:
        """Give out what is ready, as long as the worker that is best for it has room."""
        self.jobs.drop_answered()
        while len(self.jobs.jobs) < DEPTH * len(self.workers) and self.jobs.admit():
            pass
        loads = Loads(self.workers, now)
        for job, step in list(self.jobs.ready):
            model = self.jobs.routes[job.requests[0].route].steps[step].model
            worker = loads.choose(job, model)
            if worker is None:
                self.jobs.fail(job, self._down(model))
            elif worker.has_room and (job, step) in self.jobs.ready:
                self.jobs.ready.remove((job, step))
                self._give(worker, job, step, now)

    def _give(self, worker: Worker, job: Job, step: int, now: float) -> None:
        task, feed = self.jobs.start(job, step)
        worker.take(task, now)
        try:
            worker.start(task, feed)
        except WorkerFailed:
            assert isinstance(worker, ProcessWorker)
            self._lost(worker, None)

    def _down(self, model: str) -> WorkerFailed:
        """Why nobody can run a model now."""
        (worker, *_) = [item for item in self.workers if model in item.models]
        lost = f"{worker.name} was lost {len(worker.lost)} times within a minute"
        return WorkerFailed(f"{lost}, at last so: {worker.error}")

    def close(self) -> None:
        """End the thread; requests that have no answer get an error. A second call does nothing."""
        self._closing = True
        self._wake_up()
        if self._thread is not threading.current_thread():
            self._thread.join()
