"""One model several times: whoever is free takes the next feed.

So a replica that is twice as fast gets twice as many, without anybody knowing that it is; what it
cannot even out is the last feed of each. ONNX Runtime lets other threads go on while it computes.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.interface import Runtime

AHEAD = 4
"""Feeds for each replica that are taken before the oldest result is."""


class Replicas:
    """Runtimes of the same model; see `interface.Runtime`.

    Args:
        runtimes: one for each replica, at least one; closed with this.
    """

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        if not runtimes:
            raise UsageError("there is no replica to run", hint="replicas=2")
        self._runtimes = tuple(runtimes)
        self._free: queue.SimpleQueue[Runtime] = queue.SimpleQueue()
        for runtime in runtimes:
            self._free.put(runtime)
        self._pool = ThreadPoolExecutor(len(runtimes), thread_name_prefix="burnish-replica")

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order, by the next replica that is free."""
        runtime = self._free.get()
        try:
            return runtime.run(output_names, input_feed)
        finally:
            self._free.put(runtime)

    def submit(
        self, input_feed: Mapping[str, Array], output_names: Sequence[str] | None = None
    ) -> Future[list[Array]]:
        """The outputs, once they are there; see `run`."""
        return self._pool.submit(self.run, output_names, input_feed)

    def map(
        self, feeds: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order.

        Feeds are taken as results are: `AHEAD` for each replica. An error of a feed is raised in
        its turn, and ends the work; so does closing the iterator.
        """
        given, waiting = iter(feeds), deque[Future[list[Array]]]()
        try:
            while True:
                with contextlib.suppress(StopIteration):
                    while len(waiting) < AHEAD * len(self._runtimes):
                        waiting.append(self.submit(next(given), output_names))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def get_inputs(self) -> Any:
        """The inputs, in order; each has a `name`."""
        return self._runtimes[0].get_inputs()

    def get_outputs(self) -> Any:
        """The outputs, in order; each has a `name`."""
        return self._runtimes[0].get_outputs()

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`: of one replica, since they are alike."""
        return self._runtimes[0].fallen()

    def close(self) -> None:
        """Free all replicas, once what they compute is done; a second call does nothing."""
        self._pool.shutdown(cancel_futures=True)
        for runtime in self._runtimes:
            runtime.close()
