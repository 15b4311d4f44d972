"""The child's side: opens what its parent asks for, then answers orders, one after the other.

    python -m burnish.runtimes.workers.child DESCRIPTOR

The first message names a function `module:function` (see `Open`). The child ends when its parent
does: by the end of the socket, and on Linux by a signal also while it computes or is stopped.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, Protocol

from burnish.optimizer.errors import BurnishError, ResourceLimit, letter
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.memory import Entry, Region, get, put
from burnish.runtimes.workers.messages import Channel, Message

BEAT = 0.2
"""Seconds between two beats of the pulse."""


class Work(Protocol):
    """What a child does.

    Attributes:
        facts: is told to the parent once, JSON-able.
    """

    facts: dict[str, Any]

    def answer(
        self, order: dict[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], Mapping[str, Array]]:
        """Facts and arrays for an order; what it raises is told to the parent.

        Arrays that are given may be views of shared memory: they end with the order.
        """


class Open(Protocol):
    """Begins the work; `shared` are regions that the parent shares with this child, by name."""

    def __call__(self, argument: dict[str, Any], shared: Mapping[str, Region]) -> Work: ...


def main() -> None:
    """Work for the parent until it goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a child ends
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    first = channel.wait()
    if first is None:
        os._exit(0)
    _end_with(first["parent"])
    shared = {name: Region(channel.descriptor(), number) for name, number in first["shared"]}
    threading.Thread(target=_beat, args=(shared.pop(""),), daemon=True).start()
    try:
        module, function = first["target"].split(":")
        begin: Open = getattr(importlib.import_module(module), function)
        work = begin(first["argument"], shared)
        channel.send({"ready": work.facts})
        _serve(channel, work)
    except OSError:
        if os.getppid() == first["parent"]:
            traceback.print_exc()
    except Exception as error:
        channel.send({"error": letter(told(error))})
    # Leaving through the interpreter's shutdown can hang in native thread pools.
    os._exit(0)


def _serve(channel: Channel, work: Work) -> None:
    regions: dict[int, Region] = {}
    while (message := channel.wait()) is not None:
        for number in message["regions"]:
            regions[number] = Region(channel.descriptor(), number)
        channel.send(_answer(message, work, regions))


def _answer(message: Message, work: Work, regions: Mapping[int, Region]) -> Message:
    start = time.perf_counter()
    try:
        entries = [Entry.of(item) for item in message["arrays"]]
        facts, arrays = work.answer(message["order"], get(entries, regions))
        placed = put(arrays, regions[message["out"]])
    except Exception as error:
        return {"number": message["number"], "error": letter(told(error))}
    return {
        "number": message["number"],
        "answer": facts,
        "arrays": placed,
        "seconds": time.perf_counter() - start,
    }


def told(error: Exception) -> BurnishError:
    """An error as it is told to the parent."""
    if isinstance(error, BurnishError):
        return error
    if isinstance(error, MemoryError):
        return ResourceLimit("the memory limit was reached", hint="--memory-limit")
    traceback.print_exc()
    return BurnishError(f"internal error: {type(error).__name__}: {error}")


def _end_with(parent: int) -> None:
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _beat(pulse: Region) -> None:
    """Count in shared memory, so that the parent sees whether this process still runs."""
    view, count = pulse.view(8), 0
    while True:
        count += 1
        view[:8] = count.to_bytes(8, "little")
        time.sleep(BEAT)


if __name__ == "__main__":
    main()
