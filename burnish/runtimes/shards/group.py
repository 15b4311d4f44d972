"""The ranks of a stage, which compute each feed together: in threads, or in processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from burnish.optimizer.errors import WorkerFailed
from burnish.runtimes.arrays import Array
from burnish.runtimes.shards.meeting import Table
from burnish.runtimes.shards.plan import Split, Stage
from burnish.runtimes.shards.rank import Rank, part_as_json
from burnish.runtimes.workers.memory import Region
from burnish.runtimes.workers.process import Process

Feed = Mapping[str, Array]


class Group(Protocol):
    """Ranks that compute together; one caller at a time."""

    ports: dict[str, list[dict[str, Any]]]
    """Inputs and outputs of a rank's parts, see `workers.sessions.ports_of`."""

    def run(self, feed: Feed, outputs: Sequence[str], deadline: float | None) -> dict[str, Array]:
        """The outputs asked for, whole.

        Raises:
            WorkerFailed: a rank died or hangs; all are started anew.
            DeadlineExceeded: there was no answer in so many seconds; likewise.
            BurnishError: what a rank raised.
        """

    def close(self) -> None:
        """Free all ranks; a second call does nothing."""


class ThreadGroup:
    """Ranks in threads of this process; see `Group`.

    A thread cannot be ended, so that a deadline only counts between runs.
    """

    def __init__(self, stage: Stage, *, provider: str, threads: int) -> None:
        self._stage, table = stage, Table(len(stage.ranks))
        self._ranks: list[Rank] = []
        with contextlib.ExitStack() as opened:
            for rank, parts in enumerate(stage.ranks):
                made = Rank(parts, table.seat(rank), provider=provider, threads=threads)
                opened.callback(made.close)
                self._ranks.append(made)
            self._opened = opened.pop_all()
        self.ports = self._ranks[0].ports
        self._pool = ThreadPoolExecutor(len(stage.ranks), thread_name_prefix="burnish-rank")

    def run(self, feed: Feed, outputs: Sequence[str], deadline: float | None) -> dict[str, Array]:
        """See `Group`."""
        feeds = feeds_of(self._stage, feed)
        asked = asked_of(self._stage, outputs)
        futures = [
            self._pool.submit(rank.run, mine, names)
            for rank, mine, names in zip(self._ranks, feeds, asked, strict=True)
        ]
        concurrent.futures.wait(futures)
        if errors := errors_of(futures):
            self._ranks[0].meeting.reset()
            raise errors[0]
        return together(self._stage, [future.result() for future in futures], outputs)

    def close(self) -> None:
        """See `Group`."""
        self._pool.shutdown()
        self._opened.close()


class ProcessGroup:
    """Each rank in a process; see `Group`."""

    def __init__(self, stage: Stage, *, provider: str, threads: int) -> None:
        self._stage, self._provider, self._threads = stage, provider, threads
        self._pool = ThreadPoolExecutor(len(stage.ranks), thread_name_prefix="burnish-ranks")
        self._processes: list[Process] = []
        self._shared: dict[str, Region] = {}
        self.ports: dict[str, list[dict[str, Any]]] = {}
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        count = len(self._stage.ranks)
        self._shared = {"board": Region()} | {
            f"bell {rank} {turn}": Region(os.eventfd(0, os.EFD_CLOEXEC), -1)
            for rank in range(count)
            for turn in range(2)
        }
        for rank, parts in enumerate(self._stage.ranks):
            argument = {
                "rank": rank,
                "ranks": count,
                "parts": [part_as_json(part) for part in parts],
                "provider": self._provider,
                "threads": self._threads,
            }
            process = Process(
                "burnish.runtimes.shards.rank:open_rank", argument, shared=self._shared,
                name=f"{self._stage.name}, rank {rank + 1}",
            )  # fmt: skip
            self._processes.append(process)
        for process in self._processes:
            self.ports = process.ready()

    @property
    def pids(self) -> list[int]:
        """The process ids of the ranks, in order."""
        return [process.pid for process in self._processes]

    def run(self, feed: Feed, outputs: Sequence[str], deadline: float | None) -> dict[str, Array]:
        """See `Group`."""
        if not self._processes:
            self._start()
        feeds, asked = feeds_of(self._stage, feed), asked_of(self._stage, outputs)

        def ask(rank: int) -> dict[str, Array]:
            order = {"outputs": list(asked[rank])}
            return self._processes[rank].ask(order, feeds[rank], deadline=deadline)[1]

        return together(self._stage, self._all(ask), outputs)

    def _all(self, ask: Callable[[int], dict[str, Array]]) -> list[dict[str, Array]]:
        """What all ranks answer; where one is lost, all are ended, since others wait for it."""
        futures = [self._pool.submit(ask, rank) for rank in range(len(self._processes))]
        concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
        early = errors_of([future for future in futures if future.done()])
        if any(process.is_ended for process in self._processes):
            for process in self._processes:
                if not process.is_ended:
                    os.kill(process.pid, signal.SIGKILL)
        concurrent.futures.wait(futures)
        if errors := early or errors_of(futures):
            self._begin_anew()
            raise errors[0]
        return [future.result() for future in futures]

    def _begin_anew(self) -> None:
        """After an error: ranks that live forget the meeting; without one all are ended."""
        try:
            if any(process.is_ended for process in self._processes):
                raise WorkerFailed("a rank is lost")
            for process in self._processes:
                process.ask({"reset": True}, {})
        except WorkerFailed:
            self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
        for region in self._shared.values():
            region.close()
        self._processes, self._shared = [], {}

    def close(self) -> None:
        """See `Group`."""
        self._end()
        self._pool.shutdown()


def errors_of(futures: Sequence[Future[Any]]) -> list[BaseException]:
    """What futures raised; those first that do not just say that another rank failed."""
    found = [error for future in futures if (error := future.exception()) is not None]
    return sorted(found, key=lambda error: _is_echo(error))


def _is_echo(error: BaseException) -> bool:
    return isinstance(error, WorkerFailed) and error.message == "another rank failed"


def feeds_of(stage: Stage, feed: Feed) -> list[dict[str, Array]]:
    """What each rank is given of a feed."""
    found = []
    for rank in range(len(stage.ranks)):
        mine = {}
        for name in stage.inputs:
            mine[name] = _taken(feed[name], stage.split.get(name), rank)
        found.append(mine)
    return found


def _taken(array: Array, split: Split | None, rank: int) -> Array:
    if split is None:
        return array
    place = [slice(None)] * array.ndim
    place[split.axis] = slice(*split.parts[rank])
    return array[tuple(place)]


def asked_of(stage: Stage, outputs: Sequence[str]) -> list[list[str]]:
    """What each rank is asked for: what is whole, of the first alone."""
    return [
        [name for name in outputs if name in stage.split or rank == 0]
        for rank in range(len(stage.ranks))
    ]


def together(
    stage: Stage, results: Sequence[Mapping[str, Array]], outputs: Sequence[str]
) -> dict[str, Array]:
    """The whole outputs; what several ranks have is taken of the first."""
    found = {}
    for name in outputs:
        split = stage.split.get(name)
        if split is None:
            found[name] = results[0][name]
            continue
        pieces, done = [], 0
        for result, (start, end) in zip(results, split.parts, strict=True):
            if end > done:
                place = [slice(None)] * result[name].ndim
                place[split.axis] = slice(max(done, start) - start, None)
                pieces.append(result[name][tuple(place)])
                done = end
        found[name] = np.concatenate(pieces, split.axis)
    return found


def open_group(stage: Stage, *, provider: str, threads: int, processes: bool) -> Group:
    """The ranks of a stage, ready.

    Raises:
        UsageError, UnsupportedModel: see `onnxruntime.Session`.
        BurnishError: a rank's process could not begin.
    """
    kind = ProcessGroup if processes and len(stage.ranks) > 1 else ThreadGroup
    return kind(stage, provider=provider, threads=threads)
