"""A tree of processes: who is in it, what it uses, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal


def tree(pid: int) -> list[int]:
    """The process and its descendants, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError), open(f"/proc/{parent}/task/{parent}/children") as names:
            found.extend(int(name) for name in names.read().split())
    return found


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
