"""Untrusted native work in a spawned child with limits on memory, processor and wall time.

Everything that parses a model file, or hands one to native code, runs in a child of `call`. The
child is a fresh interpreter (`python -m burnish.optimizer.sandbox_child`), so a crash, a hang or an
allocation without end costs the parent one error line. What comes back is JSON (arrays travel as
files of raw numbers), so a child that was taken over can lie but not execute anything.

Memory is bounded twice: RLIMIT_DATA stops a single allocation (RLIMIT_AS would count mapped
weights and break CUDA), and a watchdog adds RssAnon and RssShmem over the tree of processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, revived
from burnish.optimizer.processes import kill_tree, tree_memory

GRACE = 5.0
"""Seconds that a child has to end once it has closed its channel."""

LAST_WORDS = 4096
"""Bytes of a child's output that are looked at when it has died."""

WATCH_INTERVAL = 0.05
"""Seconds between two looks of the watchdog."""


LEAST_MEMORY = 1 << 29
"""Bytes below which no default limit goes: the interpreter and its libraries take half of it."""


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        memory: bytes of anonymous and shared memory, for the child and all its descendants.
        wall: seconds on the clock.
        processor: seconds of processor time of the child itself; None for wall times the cores.
    """

    memory: int
    wall: float = 3600.0
    processor: float | None = None


def default_memory() -> int:
    """Nine tenths of what the machine has free, in bytes (a cgroup's limit included)."""
    free = 8 << 30
    with contextlib.suppress(OSError), open("/proc/meminfo") as table:
        fields = dict(line.split(":", 1) for line in table)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    with (
        contextlib.suppress(OSError, ValueError),
        open("/sys/fs/cgroup/memory.max") as ceiling,
        open("/sys/fs/cgroup/memory.current") as used,
        open("/sys/fs/cgroup/memory.stat") as parts,
    ):
        # The cache of files counts as used, and is given back where memory is asked for.
        cache = sum(int(line.split()[1]) for line in parts if line.startswith("inactive_file "))
        free = min(free, int(ceiling.read()) - int(used.read()) + cache)
    return max(int(free * 0.9), LEAST_MEMORY)


def call(
    target: str,
    argument: dict[str, Any],
    limits: Limits,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run `module:function` on a JSON-able argument in a child; return its JSON-able result.

    Raises:
        BurnishError: the error the child raised, or ResourceLimit where a limit stopped it, or
            InvalidModel where native code crashed.
    """
    with Worker(target, argument, limits, on_event) as worker:
        return worker.result()


class Worker:
    """One child, started at once; `result` waits for it. The context ends the child for sure."""

    def __init__(
        self,
        target: str,
        argument: dict[str, Any],
        limits: Limits,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.limits = limits
        self._on_event = on_event or (lambda event: None)
        self._watch = _Watch(limits)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        # A child that is killed cannot tidy up: its temporary files lie in a folder of ours.
        self._scratch = tempfile.TemporaryDirectory(prefix="burnish-", ignore_cleanup_errors=True)
        self._process, self._channel = self._spawn(target, argument)
        self._watch.start(self._process.pid)

    def _spawn(
        self, target: str, argument: dict[str, Any]
    ) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        read_end, write_end = os.pipe()
        order = {
            "target": target,
            "argument": argument,
            "limits": [self.limits.memory, self.limits.wall, self.limits.processor],
            "channel": write_end,
            "parent": os.getpid(),
        }
        try:
            process = subprocess.Popen(
                # -P: a file beside a model in the current folder is no module, whatever its name.
                [sys.executable, "-P", "-m", "burnish.optimizer.sandbox_child"],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(write_end,),
                env={**os.environ, "TMPDIR": self._scratch.name},
                # A group of its own: an interrupt at the prompt reaches only the parent.
                process_group=0,
            )
        finally:
            os.close(write_end)
        channel = os.fdopen(read_end, "rb")
        _write_line(process, order)
        return process, channel

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    @property
    def peak_memory(self) -> int:
        """The most bytes seen of anonymous and shared memory over the child's tree."""
        return self._watch.peak

    def events(self) -> Any:
        """Yield what the child reports, until it closes its channel."""
        for line in self._channel:
            try:
                message = json.loads(line)
            except ValueError:  # torn off where the child was killed, or forged
                return
            yield message

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send a further order to a child that takes them, and wait for what it reports."""
        _write_line(self._process, order)
        for message in self.events():
            if "event" in message:
                event: dict[str, Any] = message["event"]
                return event
            if "error" in message:
                raise revived(message["error"])
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # it has garbled its channel and lives on
            kill_tree(self._process.pid)
            code = self._process.wait()
        raise self._explain_death(code)

    def result(self) -> dict[str, Any]:
        """Wait for the child; see `call`."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        answer: dict[str, Any] | None = None
        for message in self.events():
            if "event" in message:
                self._on_event(message["event"])
            else:
                answer = message
        code = self._process.wait()
        if answer is None:
            raise self._explain_death(code)
        if "error" in answer:
            raise revived(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def last_words(self) -> str:
        """The last line that the child printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LAST_WORDS))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _explain_death(self, code: int) -> BurnishError:
        if self._watch.verdict:
            return ResourceLimit(self._watch.verdict, hint="--memory-limit or --time-limit")
        if code == -signal.SIGXCPU:
            return ResourceLimit("the processor time limit was reached", hint="--time-limit")
        words = self.last_words()
        if "MemoryError" in words or "bad_alloc" in words or code == -signal.SIGKILL:
            return ResourceLimit("the memory limit was reached", hint="--memory-limit")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InvalidModel(f"native code died while working on it: {name}", place=words[-160:])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child for sure, and whatever it has started or left behind."""
        self._watch.stop()
        if self._process.poll() is None:
            kill_tree(self._process.pid)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._channel.close()
        self._log.close()
        self._scratch.cleanup()


@dataclass
class _Watch:
    """Looks at the tree of processes and ends it when it uses too much or takes too long."""

    limits: Limits
    verdict: str = ""
    peak: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self, pid: int) -> None:
        threading.Thread(target=self._run, args=(pid,), daemon=True).start()

    def stop(self) -> None:
        self._done.set()

    def _run(self, pid: int) -> None:
        deadline = time.monotonic() + self.limits.wall
        while not self._done.wait(WATCH_INTERVAL):
            used = tree_memory(pid)
            self.peak = max(self.peak, used)
            if time.monotonic() > deadline:
                self.verdict = f"not finished after {self.limits.wall:.0f} s"
            elif used > self.limits.memory:
                self.verdict = (
                    f"needs more memory than the limit of {self.limits.memory / 1e9:.1f} GB "
                    f"({used / 1e9:.1f} GB used)"
                )
            if self.verdict:
                kill_tree(pid)
                return


def _write_line(process: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
