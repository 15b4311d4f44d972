"""A tree of processes: who is in it, what it uses, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal


def tree(pid: int) -> list[int]:
    """The process and its descendants, parents first, as far as main threads have started them."""
    found = [pid]
    for parent in found:
        found.extend(_started_by(parent, parent))
    return found


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started; none where it is gone."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.extend(_started_by(pid, int(thread)))
    return found


def _started_by(pid: int, thread: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as names:
        return [int(name) for name in names.read().split()]
    return []


def runs_module(pid: int, module: str) -> bool:
    """Whether a process is an interpreter that was started with `-m MODULE`."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as told:
        return module.encode() in told.read().split(b"\0")
    return False


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal, or has ended."""
    try:
        with open(f"/proc/{pid}/stat") as told:
            # The name before the state is in parentheses, and may hold some.
            return told.read().rpartition(")")[2].split()[0] in "TZX"
    except OSError:
        return True


def tree_memory(pid: int) -> int:
    """Bytes of anonymous and shared memory over the tree of processes below `pid`."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/status") as status:
            for line in status:
                if line.startswith(("RssAnon", "RssShmem")):
                    total += int(line.split()[1]) * 1024
    return total


def kill_tree(pid: int) -> None:
    """End a process and all its descendants."""
    for member in tree(pid):
        with contextlib.suppress(OSError):
            os.kill(member, signal.SIGKILL)
