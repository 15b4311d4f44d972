"""The child's side of `sandbox`: one order in, limits taken, one answer out."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, letter, not_written

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Failures of the system that are about where we write, and no fault of ours."""

COLLECTIONS = (100_000, 20, 20)
"""Allocations before a garbage collection, and collections of a generation before one of the next.

Graphs are many objects that live long: at Python's own thresholds a compilation of 96 layers walks
through all of them 57 times.
"""


def main() -> None:
    """Read the order, take the limits, work, answer in one JSON line."""
    order = json.loads(sys.stdin.buffer.readline())
    gc.set_threshold(*COLLECTIONS)
    channel = os.fdopen(order["channel"], "w")
    memory, wall, processor = order["limits"]
    _take_limits(memory, processor or wall * (os.cpu_count() or 1), order["parent"])

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        module, function = order["target"].split(":")
        work = getattr(importlib.import_module(module), function)
        say({"result": work(order["argument"], lambda event: say({"event": event}))})
    except BurnishError as error:
        say({"error": letter(error)})
    except MemoryError:
        limit = ResourceLimit("the memory limit was reached", hint="--memory-limit")
        say({"error": letter(limit)})
    except RecursionError:
        say({"error": letter(InvalidModel("the graph is nested too deeply"))})
    except OSError as error:
        if error.errno in FULL:
            say({"error": letter(not_written("writing failed", error))})
        else:
            _say_internal(error, say)
    except Exception as error:
        _say_internal(error, say)
    # A child that leaves through the interpreter's shutdown can hang in native thread pools.
    channel.close()
    sys.stdout.flush()
    os._exit(0)


def _say_internal(error: Exception, say: Callable[[dict[str, Any]], None]) -> None:
    traceback.print_exc()
    message = f"internal error: {type(error).__name__}: {error}"
    internal = BurnishError(message, hint="--debug for the traceback, and report it")
    say({"error": letter(internal) | {"trace": traceback.format_exc()}})


def _take_limits(memory: int, processor: float, parent: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(ValueError, OSError):
        # SIGXCPU says which limit it was; at the hard limit comes SIGKILL.
        seconds = int(processor) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
