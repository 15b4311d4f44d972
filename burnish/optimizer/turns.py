"""Compilations side by side take times in turn, each with the machine for itself.

They are children of one process, and share a file. Whoever takes times holds its lock and stops
its siblings and all below them meanwhile. The file names what is stopped, so that whoever comes
next can wake what a holder has left behind that died in its turn. Compilations of several
parents on one machine (workers of a cluster) are siblings where these have entered `in_turn_with`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from burnish.optimizer.processes import children, is_stopped, runs_module, tree

CHILD = "burnish.optimizer.sandbox_child"
"""What siblings are told by; other children of their parent are none."""


PARENTS = ".parents"
"""What the folder of marks is called after the file."""


class Turn:
    """A context in which the siblings of this process stand still; reentrant it is not.

    Args:
        file: what siblings share; None for a process without any.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._handle = -1
        self._stopped: list[int] = []

    def __enter__(self) -> Turn:
        if self._file is not None:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            _wake(self._handle)
            self.hold()
        return self

    def hold(self) -> None:
        """Stop those siblings that run, also such as have been born since."""
        if self._file is None:
            return
        while running := self._running():
            # What its own contest has stopped stays so when a sibling goes on.
            self._stopped += running
            os.pwrite(self._handle, " ".join(map(str, self._stopped)).encode(), 0)
            for pid in running:
                _send(pid, signal.SIGSTOP)

    def _running(self) -> list[int]:
        """The siblings, and all below them, that nobody has stopped."""
        parents = {os.getppid(), *_parents(self._file)}
        of_parents = {pid for parent in parents for pid in children(parent)}
        siblings = [pid for pid in of_parents if pid != os.getpid() and runs_module(pid, CHILD)]
        below = (pid for sibling in siblings for pid in tree(sibling))
        return [pid for pid in below if pid not in self._stopped and not is_stopped(pid)]

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            _wake(self._handle)
            os.close(self._handle)
            self._stopped = []


@contextlib.contextmanager
def in_turn_with(file: Path) -> Iterator[None]:
    """The children of this process are siblings of those of others that share the file."""
    folder = Path(f"{file}{PARENTS}")
    folder.mkdir(exist_ok=True)
    mark = folder / str(os.getpid())
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are in it
            folder.rmdir()


def _parents(file: Path | None) -> list[int]:
    """The processes that have entered `in_turn_with`; some may have died since."""
    if file is None:
        return []
    return [int(mark.name) for mark in Path(f"{file}{PARENTS}").glob("*")]


def wake_left(file: Path) -> None:
    """Wake what a holder that has died left stopped; nothing where somebody holds the turn."""
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _wake(handle)
        finally:
            os.close(handle)


def _wake(handle: int) -> None:
    """Let go on what the file names, and forget it."""
    names = os.pread(handle, os.fstat(handle).st_size, 0).decode().split()
    for name in names:
        _send(int(name), signal.SIGCONT)
    os.ftruncate(handle, 0)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
