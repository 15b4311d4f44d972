"""Runs a model that is split over ranks: every rank has a part of each layer, and all a feed.

Stages follow each other, as far as there are several; each is one group of ranks. Feeds are
computed one after the other, in the order in which they were given.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import DeadlineExceeded, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.shards.group import Group, open_group
from burnish.runtimes.shards.plan import Stage, read
from burnish.runtimes.workers.made_up import feed_of
from burnish.runtimes.workers.opening import PROCESSES, THREADS, Opening
from burnish.runtimes.workers.requests import Port, Route, Step

DEFAULT = PROCESSES if sys.platform == "linux" else THREADS
"""How ranks are run."""

AHEAD = 4
"""Feeds that `map` takes before the oldest result is."""


class TensorParallel:
    """The ranks of a folder that `optimize plan --shards -o` wrote; see `interface.Runtime`.

    Args:
        folder: with the manifest and the parts.
        opening: provider, threads of each rank (1 where none are told), threads or processes.

    Attributes:
        groups: the ranks of each stage.

    Raises:
        InvalidModel: the manifest is none of such a folder.
        UsageError, UnsupportedModel: see `onnxruntime.Session`.
    """

    def __init__(self, folder: Path, opening: Opening | None = None) -> None:
        opening, told = opening or Opening(workers=PROCESSES), read(folder)
        self._stages, self.groups = told.stages, list[Group]()
        with contextlib.ExitStack() as opened:
            for stage in told.stages:
                group = open_group(
                    stage, provider=opening.provider, threads=opening.threads or 1,
                    processes=opening.workers == PROCESSES,
                )  # fmt: skip
                opened.callback(group.close)
                self.groups.append(group)
            self._opened = opened.pop_all()
        self._route = _route(told.stages, told.inputs, told.outputs, self.groups)
        self._lock, self._closed = threading.Lock(), False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="burnish-shards")
        _open.add(self)

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Array],
        *,
        deadline: float | None = None,
    ) -> list[Array]:
        """The outputs asked for (all where None), in order.

        Args:
            output_names: names of outputs.
            input_feed: an array for each input.
            deadline: seconds in which there is an answer, or `DeadlineExceeded`.

        Raises:
            UsageError: the feed or a name does not go with the model, or this is closed.
            WorkerFailed: a rank died or hangs; the next run starts all of its stage anew.
        """
        feed, names = self._route.feed(input_feed), self._route.asked(output_names)
        end = None if deadline is None else time.monotonic() + deadline
        with self._lock:
            if self._closed:
                raise UsageError("it is closed")
            values = dict(feed)
            needed = self._needed(names)
            for stage, group, asked in zip(self._stages, self.groups, needed, strict=True):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise DeadlineExceeded(f"there was no answer within {deadline:g} s")
                given = {name: values[name] for name in stage.inputs}
                values |= group.run(given, asked, left)
        return [values[name] for name in names]

    def _needed(self, names: Sequence[str]) -> list[list[str]]:
        """What each stage is asked for: for the caller, or for later stages."""
        found: list[list[str]] = []
        wanted = set(names)
        for stage in reversed(self._stages):
            found.append([name for name in stage.outputs if name in wanted])
            wanted.update(stage.inputs)
        return found[::-1]

    def submit(
        self,
        input_feed: Mapping[str, Array],
        output_names: Sequence[str] | None = None,
        *,
        deadline: float | None = None,
    ) -> Future[list[Array]]:
        """The outputs, once they are there; see `run`."""
        return self._pool.submit(self.run, output_names, input_feed, deadline=deadline)

    def map(
        self, feeds: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order.

        Feeds are taken as results are. An error of a feed is raised in its turn, and ends the
        work; so does closing the iterator.
        """
        given, waiting = iter(feeds), deque[Future[list[Array]]]()
        try:
            while True:
                with contextlib.suppress(StopIteration):
                    while len(waiting) < AHEAD:
                        waiting.append(self.submit(next(given), output_names))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def health(self, deadline: float = 10.0) -> dict[str, Any]:
        """Whether a made-up feed is answered, by all ranks, and in how many seconds."""
        start = time.monotonic()
        try:
            self.run(None, feed_of(self.get_inputs()), deadline=deadline)
        except Exception as error:  # whatever it is, it is not healthy
            return {"healthy": False, "seconds": None, "error": str(error)}
        return {"healthy": True, "seconds": time.monotonic() - start, "error": ""}

    def get_inputs(self) -> list[Port]:
        """The inputs, in order; each has a `name`."""
        return list(self._route.inputs)

    def get_outputs(self) -> list[Port]:
        """The outputs, in order; each has a `name`."""
        return list(self._route.outputs)

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`."""
        return None

    def close(self) -> None:
        """Free all ranks, once what they compute is done; a second call does nothing."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            self._opened.close()

    def __enter__(self) -> TensorParallel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_shards(
    folder: Path,
    *,
    provider: str | Sequence[str] = "cpu",
    threads: int | Sequence[int] = 0,
    workers: str = DEFAULT,
) -> TensorParallel:
    """The ranks of a folder, in processes unless threads are asked for.

    Raises:
        UsageError: several providers or numbers of threads are named; all ranks are alike.
        InvalidModel, UnsupportedModel: see `TensorParallel`.
    """
    if not isinstance(provider, str) or not isinstance(threads, int):
        raise UsageError("ranks have one provider and one number of threads", hint="threads=1")
    return TensorParallel(folder, Opening(provider, threads, workers))


_open: weakref.WeakSet[TensorParallel] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Threads that compute when the interpreter ends would take the process down with them."""
    for runtime in list(_open):
        runtime.close()


def _route(
    stages: Sequence[Stage], inputs: Sequence[str], outputs: Sequence[str], groups: Sequence[Group]
) -> Route:
    """The ports of the whole; sizes of those in parts are those of the whole."""
    known: dict[str, Port] = {}
    for stage, group in zip(stages, groups, strict=True):
        for port in (*group.ports["inputs"], *group.ports["outputs"]):
            found = Port.of(port)
            split = stage.split.get(found.name)
            if split is not None and found.shape is not None:
                shape = list(found.shape)
                shape[split.axis] = max(end for _, end in split.parts)
                found = Port(found.name, found.type, tuple(shape))
            known.setdefault(found.name, found)
    steps = tuple(Step(stage.name, stage.inputs, stage.outputs) for stage in stages)
    return Route(
        steps,
        tuple(known.get(name, Port(name)) for name in inputs),
        tuple(known.get(name, Port(name)) for name in outputs),
    )
