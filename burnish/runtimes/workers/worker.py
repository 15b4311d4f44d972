"""Workers as the dispatcher sees them: in threads of this process, or in processes."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.interface import Runtime
from burnish.runtimes.providers import Explain
from burnish.runtimes.workers.process import Process
from burnish.runtimes.workers.requests import Task
from burnish.runtimes.workers.sessions import TARGET, ports_of

OPENING, READY, DOWN = "opening", "ready", "down"

DEPTH = 2
"""Tasks that a worker has at most: one is computed while the next is handed over."""

NEWEST = 0.3
"""Weight of the latest task in a worker's pace."""

JUMP = 4.0
"""How many times as slow as before a worker looks by one task; the machine may have stalled."""

Models = Mapping[str, Mapping[str, Any]]
"""By name: `path`, `provider` and `threads`."""


class Worker:
    """What both kinds have in common.

    Attributes:
        name: what health and errors call it.
        models: names of those that it runs.
        tasks: what it has, in order; it computes the first.
        paces: seconds for a unit of work, by model, as far as it has been seen.
        state: see `OPENING` and its kin.
        lost: when it was lost, by the monotonic clock.
        error: of its last loss.
        answers: that it has given.
        idle: since when, by the monotonic clock, where it has no tasks.
    """

    def __init__(self, name: str, models: frozenset[str]) -> None:
        self.name, self.models = name, models
        self.tasks: deque[Task] = deque()
        self.paces: dict[str, float] = {}
        self.state = OPENING
        self.lost: deque[float] = deque()
        self.error = ""
        self.answers, self.idle = 0, 0.0

    def start(self, task: Task, feed: Mapping[str, Any]) -> None:
        """Begin a task; raises WorkerFailed where the worker is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what it holds."""
        raise NotImplementedError

    def facts(self) -> dict[str, dict[str, Any]]:
        """By model: `inputs` and `outputs`, and `fallen` as `interface.Runtime` has it."""
        raise NotImplementedError

    @property
    def has_room(self) -> bool:
        """Whether it takes another task."""
        return self.state == READY and len(self.tasks) < DEPTH

    def take(self, task: Task, now: float) -> None:
        """Note a task that it is given."""
        if not self.tasks:
            task.begun = now
        self.tasks.append(task)

    def finish(self, now: float) -> Task:
        """The task that it has done, which was its first."""
        task = self.tasks.popleft()
        pace = (now - task.begun) / task.job.weight
        before = self.paces.get(task.model, pace)
        self.paces[task.model] = (1 - NEWEST) * before + NEWEST * min(pace, JUMP * before)
        self.answers += 1
        if self.tasks:
            self.tasks[0].begun = now
        self.idle = now
        return task


Done = Callable[[Worker, Task, Any], None]
"""Is told what came of a task: arrays by name, or an exception."""


class ThreadWorker(Worker):
    """Sessions in this process, and a thread that runs them.

    Args:
        name: see `Worker`.
        runtimes: by the name of their model; closed with this.
        explain: what their errors are in our terms, by model; where it is not told, as they are.

    Attributes:
        done: is called in its thread.
    """

    done: Done

    def __init__(
        self,
        name: str,
        runtimes: Mapping[str, Runtime],
        explain: Mapping[str, Explain] | None = None,
    ) -> None:
        super().__init__(name, frozenset(runtimes))
        self._explain = dict(explain or {})
        self.runtimes, self.state = dict(runtimes), READY
        self._orders = queue.SimpleQueue[tuple[Task, Mapping[str, Any]] | None]()
        self._thread = threading.Thread(target=self._work, name=f"burnish {name}", daemon=True)
        self._thread.start()

    def start(self, task: Task, feed: Mapping[str, Any]) -> None:
        """Run a model on arrays."""
        self._orders.put((task, feed))

    def facts(self) -> dict[str, dict[str, Any]]:
        return {
            name: {**ports_of(runtime), "fallen": runtime.fallen()}
            for name, runtime in self.runtimes.items()
        }

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            task, feed = order
            try:
                found = self.runtimes[task.model].run(task.outputs, feed)
                result: Any = dict(zip(task.outputs, found, strict=True))
            except BurnishError as error:
                result = error
            except Exception as error:  # whatever a session raises belongs to the feed
                explain = self._explain.get(task.model)
                result = explain(error) if explain is not None else error
            self.done(self, task, result)

    def close(self) -> None:
        """End it once what it computes is done."""
        self._orders.put(None)
        self._thread.join()
        for runtime in self.runtimes.values():
            runtime.close()


class ProcessWorker(Worker):
    """A process with sessions; see `Worker`.

    Args:
        models: what it opens.
    """

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, frozenset(models))
        self._argument = {"models": {key: dict(row) for key, row in models.items()}}
        self.process = Process(TARGET, self._argument, name=name)

    def facts(self) -> dict[str, dict[str, Any]]:
        return self._facts

    def wait(self) -> None:
        """Wait until it is ready; raises what went wrong."""
        self._facts = self.process.ready()
        self.state = READY

    def reopen(self) -> None:
        """Start a new process in place of one that has ended."""
        self.process, self.state = Process(TARGET, self._argument, name=self.name), OPENING

    def start(self, task: Task, feed: Mapping[str, Any]) -> None:
        """Send an order; raises WorkerFailed where the process is gone."""
        assert task.out is not None
        order = {"model": task.model, "outputs": list(task.outputs)}
        self.process.send(task.number, order, list(feed.values()), task.out, task.given)

    def close(self) -> None:
        """End it."""
        self.process.kill()
