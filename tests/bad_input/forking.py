"""The sandbox's first children as forks of a process that has imported what they need.

To start an interpreter takes longer than to refuse a file. A fork is held to the same limits, and
what it does from its first order on is the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import types
from typing import IO

from burnish.optimizer import sandbox, sandbox_child

POLL = 0.005
"""Seconds between two looks whether a fork has ended."""


def prepare() -> None:
    """Import what a compilation imports.

    Not ONNX Runtime, nor libraries that import it: it starts a thread, which a fork would lack.
    """
    import burnish.driver.compilation  # noqa: F401


class Fork:
    """What `sandbox` uses of a `subprocess.Popen`, of a fork that never loads a program."""

    def __init__(
        self, command: list[str], *, stdin: int, stdout: IO[bytes], stderr: IO[bytes],
        pass_fds: tuple[int, ...], env: dict[str, str], process_group: int,
    ) -> None:  # fmt: skip
        assert command[-1] == sandbox_child.__name__
        read_end, write_end = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setpgid(0, process_group)
                _take_files(read_end, stdout.fileno(), pass_fds)
                os.environ.update(env)
                tempfile.tempdir = None
                sandbox.subprocess = subprocess  # its own children are new interpreters
                sandbox_child.main()
            finally:
                os._exit(1)
        os.close(read_end)
        self.stdin = os.fdopen(write_end, "wb")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
            time.sleep(POLL)
        assert self.returncode is not None
        return self.returncode


def _take_files(orders: int, log: int, kept: tuple[int, ...]) -> None:
    """Standard streams as a new process would have them, and no other file but those kept."""
    os.dup2(orders, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in kept:
            _close(number)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w")


def _close(number: int) -> None:
    try:
        os.close(number)
    except OSError:  # that of the listing itself
        return


PROCESSES = types.SimpleNamespace(**vars(subprocess) | {"Popen": Fork})
"""Stands for the module `subprocess` in the sandbox."""
