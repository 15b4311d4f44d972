"""Runs feeds on workers: the interface that replicas, pipelines and several models share."""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from burnish.optimizer.errors import BurnishError, Overloaded, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.dispatcher import Dispatcher
from burnish.runtimes.workers.health import checked, told
from burnish.runtimes.workers.jobs import Jobs
from burnish.runtimes.workers.made_up import feed_of
from burnish.runtimes.workers.probing import joiner_of
from burnish.runtimes.workers.requests import Answer, Port, Request, Route
from burnish.runtimes.workers.worker import ProcessWorker, Worker

AHEAD = 4
"""Feeds for each worker that `map` takes before the oldest result is."""

CHECKED = 10.0
"""Seconds in which a healthy worker answers."""

AGAIN = 0.01
"""Seconds between two tries of `map` where other callers take all room."""


@dataclass(frozen=True)
class Limits:
    """What a service takes on.

    Attributes:
        capacity: requests that wait at most; more are refused at once.
        batch: requests that are joined to one run at most.
        restarts: how often each worker process is started anew within a minute.
    """

    capacity: int = 1000
    batch: int = 1
    restarts: int = 20

    def __post_init__(self) -> None:
        for name in ("capacity", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} of {getattr(self, name)} is too few", hint=f"{name}=1")


class Service:
    """Workers, and the ways that requests take over them.

    Args:
        workers: ready; closed with this.
        routes: by name of the model; the first is the one where none is named.
        limits: see there.

    Attributes:
        workers: see above.
        routes: likewise.
        joined: by name of the model, why feeds are not joined, or not all of them; empty where
            they are.
    """

    def __init__(
        self, workers: Sequence[Worker], routes: Mapping[str, Route], limits: Limits
    ) -> None:
        self.routes, self._limits, self.workers = dict(routes), limits, list(workers)
        shared = all(isinstance(worker, ProcessWorker) for worker in workers)
        self._jobs = Jobs(self.routes, {}, shared=shared)
        self._dispatcher = Dispatcher(self._jobs, restarts=limits.restarts)
        self._count, self._lock = 0, threading.Lock()
        self.joined: dict[str, str] = {}
        self._dispatcher.begin(self.workers)
        _open.add(self)
        try:
            for name in self.routes if limits.batch > 1 else ():
                self._join(name)
        except BaseException:
            self.close()
            raise

    def _join(self, name: str) -> None:
        """Find out how feeds of a model are joined."""
        route = self.routes[name]
        names = [port.name for port in route.outputs]

        def run(feed: Mapping[str, Array]) -> dict[str, Array]:
            return dict(zip(names, self.run(None, feed, model=name), strict=True))

        joiner, self.joined[name] = joiner_of(run, route, self._limits.batch)
        if joiner is not None:
            self._jobs.joiners[name] = joiner

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Array],
        *,
        model: str | None = None,
        deadline: float | None = None,
    ) -> list[Array]:
        """The outputs asked for (all where None), in order; see `submit`."""
        future = self.submit(input_feed, output_names, model=model, deadline=deadline)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def submit(
        self,
        input_feed: Mapping[str, Array],
        output_names: Sequence[str] | None = None,
        *,
        model: str | None = None,
        deadline: float | None = None,
    ) -> Future[list[Array]]:
        """The outputs, once they are there.

        Args:
            input_feed: an array for each input, not to be changed before the answer is there.
            output_names: all where None.
            model: which of several.
            deadline: seconds in which there is an answer, or `DeadlineExceeded`.

        Raises:
            UsageError: at once, where the feed or a name does not go with the model.
            Overloaded: at once, where as many requests wait as there is room for.

        The future raises `WorkerFailed` where workers died of it or with it, twice.
        """
        return self._submit(input_feed, output_names, model, deadline, {})

    def _submit(
        self,
        feed: Mapping[str, Array],
        outputs: Sequence[str] | None,
        model: str | None,
        deadline: float | None,
        pinned: dict[str, str],
    ) -> Future[Answer]:
        name, route = self._route(model)
        request = Request(name, route.feed(feed), route.asked(outputs))
        request.pinned, request.owner = pinned, self
        if deadline is not None:
            request.end, request.span = time.monotonic() + deadline, deadline
        with self._lock:
            waiting = len(self._jobs.waiting) + self._count
            if waiting >= self._limits.capacity:
                raise Overloaded(f"{waiting} requests wait already", hint="a larger capacity=")
            self._count += 1
        self._dispatcher.post(lambda: self._add(request))
        return request.future

    def _add(self, request: Request) -> None:
        with self._lock:
            self._count -= 1
            self._jobs.add(request)

    def _route(self, model: str | None) -> tuple[str, Route]:
        names = list(self.routes)
        if model is None and len(names) > 1:
            raise UsageError("there are several models", hint=f"model={names[0]!r}")
        if model is not None and model not in self.routes:
            raise UsageError(f"there is no model {model}", hint=", ".join(names))
        return model or names[0], self.routes[model or names[0]]

    def map(
        self,
        feeds: Iterable[Mapping[str, Array]],
        output_names: Sequence[str] | None = None,
        *,
        model: str | None = None,
        deadline: float | None = None,
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order.

        Feeds are taken as results are: `AHEAD` for each worker, and as many as are joined. An error
        of a feed is raised in its turn, and ends the work; so does closing the iterator.
        """
        most = AHEAD * len(self.workers) * self._limits.batch
        given, waiting = iter(feeds), deque[Future[list[Array]]]()
        held: Mapping[str, Array] | None = None
        try:
            while True:
                while len(waiting) < most:
                    held = next(given, None) if held is None else held
                    if held is None:
                        break
                    try:
                        future = self.submit(held, output_names, model=model, deadline=deadline)
                    except Overloaded:
                        if waiting:
                            break
                        time.sleep(AGAIN)  # others take all room
                        continue
                    except BurnishError as error:
                        future = Future()
                        future.set_exception(error)
                    waiting.append(future)
                    held = None
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def told(self) -> list[dict[str, Any]]:
        """What is known of each worker without asking it; see `health`."""
        return [told(worker) for worker in self.workers]

    def health(
        self, feeds: Mapping[str, Mapping[str, Array]] | None = None, *, deadline: float = CHECKED
    ) -> list[dict[str, Any]]:
        """What each worker makes of a real feed; see `health.told` for what is said of it.

        A worker of a pipeline is healthy if the whole of it is that it is a part of.

        Args:
            feeds: by name of the model; made up where it is left out.
            deadline: seconds in which a healthy worker answers.
        """

        def run(name: str, pinned: dict[str, str]) -> None:
            feed = (feeds or {}).get(name)
            made = feed if feed is not None else feed_of(self.routes[name].inputs)
            self._submit(made, None, name, deadline, pinned).result()

        return checked(self.workers, self.routes, run)

    def get_inputs(self) -> list[Port]:
        """The inputs, in order; each has a `name`. Of several models, those of the first."""
        return list(next(iter(self.routes.values())).inputs)

    def get_outputs(self) -> list[Port]:
        """The outputs, likewise."""
        return list(next(iter(self.routes.values())).outputs)

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`: of all models together; workers of the same model are alike."""
        told = dict[str, list[tuple[str, int]] | None]()
        for worker in self.workers:
            told |= {name: facts["fallen"] for name, facts in worker.facts().items()}
        if None in told.values():
            return None
        counts: dict[str, int] = {}
        for rows in told.values():
            for operator, count in rows or ():
                counts[operator] = counts.get(operator, 0) + count
        return sorted(counts.items(), key=lambda item: -item[1])

    def close(self) -> None:
        """Free all workers; requests without an answer get an error. A second call does nothing.

        Threads end once what they compute is done, processes at once.
        """
        self._dispatcher.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


_open: weakref.WeakSet[Service] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that computes when the interpreter ends would take the process down with it."""
    if _open and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one interrupt was enough to get here
    for service in list(_open):
        service.close()
