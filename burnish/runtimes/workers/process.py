"""A worker process, from its parent's side."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from burnish.optimizer.errors import DeadlineExceeded, WorkerFailed, revived
from burnish.optimizer.processes import is_stopped
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.memory import Entry, Region, copied, get, put
from burnish.runtimes.workers.messages import Channel, Message

LOOK = 0.25
"""Seconds between two looks at a child that does not answer."""

STOPPED, SILENT = 2, 40
"""Looks in a row at which a child was stopped, or showed no pulse, before it counts as hanging.

Looks are counted and not seconds, so that a parent that stood still itself blames no child.
"""

SENDING = 5.0
"""Seconds in which a child has to take a header, which fits into the socket's buffer."""

LAST_WORDS = 4096
"""Bytes of a child's output that are looked at when it has died."""


class Process:
    """A child that works for this process; started at once, and ready once `ready` has returned.

    Args:
        target: `module:function`, see `child.Open`.
        argument: JSON-able, for that function.
        shared: regions that the child may use, by name.
        name: what errors call it.
    """

    def __init__(
        self,
        target: str,
        argument: Mapping[str, Any],
        *,
        shared: Mapping[str, Region] | None = None,
        name: str = "a worker",
    ) -> None:
        self.name, self.facts = name, dict[str, Any]()
        self._pulse, self._sent = Region(), set[int]()
        self._beats, self._stopped, self._silent, self._looked = b"", 0, 0, 0.0
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._given, self._taken = Region(), Region()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        regions = {**(shared or {}), "": self._pulse}
        self._process, self.channel = _spawner.call(lambda: _start(self._log))
        order = {
            "target": target,
            "argument": dict(argument),
            "parent": os.getpid(),
            "shared": [[key, region.number] for key, region in regions.items()],
        }
        self.send_raw(order, [region.descriptor for region in regions.values()])

    @property
    def pid(self) -> int:
        """The process id of the child."""
        pid: int = self._process.pid
        return pid

    @property
    def is_ended(self) -> bool:
        """Whether it has been ended, or found dead."""
        return self._log.closed

    def ready(self) -> dict[str, Any]:
        """What the work tells of itself, once it has begun.

        Raises:
            BurnishError: it could not begin; the process has ended then.
        """
        message = self._wait(None)
        if "error" in message:
            self.kill()
            raise revived(message["error"])
        facts: dict[str, Any] = message["ready"]
        self.facts = facts
        return facts

    def ask(
        self,
        order: Mapping[str, Any],
        arrays: Mapping[str, Array],
        *,
        deadline: float | None = None,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the work answers to an order. One thread asks at a time; others wait.

        Args:
            order: JSON-able.
            arrays: are copied to memory that the child shares.
            deadline: seconds; None to wait as long as the child shows that it runs.

        Raises:
            WorkerFailed: the child died, or hangs; it has ended then.
            DeadlineExceeded: there was no answer in time; it has ended then.
            BurnishError: what the work raised.
        """
        with self._lock:
            self.begin(order, arrays)
            return self.finish(deadline)

    def begin(self, order: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """The first half of `ask`, for orders to several children at once."""
        self.send(next(self._numbers), order, put(arrays, self._given), self._taken, [self._given])

    def finish(self, deadline: float | None = None) -> tuple[dict[str, Any], dict[str, Array]]:
        """The other half of `ask`."""
        message = self._wait(deadline)
        if "error" in message:
            raise revived(message["error"])
        entries = [Entry.of(item) for item in message["arrays"]]
        facts: dict[str, Any] = message["answer"]
        return facts, copied(get(entries, {self._taken.number: self._taken}))

    def send(
        self,
        number: int,
        order: Mapping[str, Any],
        arrays: Sequence[Entry],
        out: Region,
        given: Sequence[Region],
    ) -> None:
        """Send an order without waiting for its answer, which has its number.

        Args:
            number: of the order.
            order: JSON-able.
            arrays: what it is given, in the regions `given`.
            out: where its arrays will lie.
            given: regions of `arrays`.

        Raises:
            WorkerFailed: the child is gone, or reads nothing.
        """
        new = [region for region in {*given, out} if region.number not in self._sent]
        message = {
            "number": number,
            "order": dict(order),
            "arrays": list(arrays),
            "out": out.number,
            "regions": [region.number for region in new],
        }
        self.send_raw(message, [region.descriptor for region in new])
        self._sent.update(region.number for region in new)

    def send_raw(self, message: Message, descriptors: Sequence[int]) -> None:
        """Send a message as it is; see `send`."""
        try:
            self.channel.send(message, descriptors)
        except OSError:
            raise self.failed() from None

    def _wait(self, deadline: float | None) -> Message:
        end = None if deadline is None else time.monotonic() + deadline
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while (message := self.channel.next()) is None:
            left = LOOK if end is None else min(LOOK, max(0.0, end - time.monotonic()))
            if poll.poll(left * 1000):
                try:
                    alive = self.channel.receive()
                except OSError:
                    alive = False
                if not alive:
                    raise self.failed()
            elif end is not None and time.monotonic() >= end:
                self.kill()
                raise DeadlineExceeded(f"{self.name} gave no answer within {deadline:g} s")
            elif self.hangs():
                self.kill()
                raise WorkerFailed(f"{self.name} hangs")
        found: Message = message
        return found

    def hangs(self) -> bool:
        """Whether the child stands still, or was not seen to run for long; to be asked often.

        It is only looked at every `LOOK` seconds.
        """
        now = time.monotonic()
        if now - self._looked < LOOK * 0.9 or self._log.closed:
            return False
        self._looked = now
        self._stopped = self._stopped + 1 if is_stopped(self.pid) else 0
        beats = bytes(self._pulse.view(8)[:8])
        # Before it is ready, a runtime may hold the interpreter's lock for as long as it opens.
        self._silent = self._silent + 1 if beats == self._beats and self.facts else 0
        self._beats = beats
        return self._stopped >= STOPPED or self._silent >= SILENT

    def failed(self) -> WorkerFailed:
        """Why the child is gone; it has ended for sure then."""
        code = self.kill()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return WorkerFailed(f"{self.name} died: {name}", place=self._words[-160:])

    _words = ""

    def kill(self) -> int:
        """End the child for sure; its exit code, negative where it was a signal.

        A second call does nothing.
        """
        if not self._log.closed:
            # What died by itself keeps its own exit code.
            if not self._gone(0.05):
                self._process.kill()
            self._process.wait()
            self._words = _last_line(self._log)
            self._log.close()
            self.channel.close()
            for region in (self._pulse, self._given, self._taken):
                region.close()
        code: int = self._process.returncode
        return code

    def _gone(self, seconds: float) -> bool:
        """Whether the socket has been closed by the child, and it ends within some seconds."""
        poll = select.poll()
        poll.register(self.channel, select.POLLHUP)
        if not poll.poll(0):
            return False
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class _Spawner:
    """Starts children from a thread that lasts.

    The system ends a child with the thread that started it, not with the process.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), 0
        self._pool: ThreadPoolExecutor | None = None

    def call(self, start: Callable[[], Any]) -> Any:
        with self._lock:
            if self._pool is None or self._process != os.getpid():  # a fork has no threads
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="burnish-spawner")
                self._process = os.getpid()
            pool = self._pool
        return pool.submit(start).result()


_spawner = _Spawner()


def _start(log: Any) -> tuple[subprocess.Popen[bytes], Channel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = subprocess.Popen(
            # -P: a file beside a model in the current folder is no module, whatever its name.
            [sys.executable, "-P", "-m", "burnish.runtimes.workers.child", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(),),
            # A group of its own: an interrupt at the prompt reaches only the parent.
            process_group=0,
        )
    ours.settimeout(SENDING)
    return process, Channel(ours)


def _last_line(log: Any) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LAST_WORDS))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
