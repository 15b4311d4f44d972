"""Work in a child of its own: what crashes or hangs there ends itself alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

MOST = 240
"""Characters of an error."""

WRAPPERS = ("TorchExportError", "ConversionError")
"""Errors that say nothing by themselves."""

Facts = dict[str, Any]


def call(work: Callable[..., Facts], *arguments: Any, seconds: float) -> Facts:
    """What the work returns, with `status` ok; or error, crash or hangs, and an `error`.

    The child is forked, so that it need not import anything anew.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, arguments, sender))
    child.start()
    sender.close()
    try:
        done = receiver.poll(seconds)
        facts = receiver.recv() if done else _failed("hangs", f"not done after {seconds:.0f} s")
    except EOFError:
        child.join()
        facts = _failed("crash", f"the process ended with code {child.exitcode}")
    with contextlib.suppress(ProcessLookupError):  # the child's own children too
        os.killpg(child.pid or 0, signal.SIGKILL)
    child.join()
    return facts


def told(error: BaseException) -> str:
    """Type and first line of an error, or of what lies under it where it only wraps that."""
    while type(error).__name__ in WRAPPERS and error.__cause__:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[0]}"[:MOST]


def _failed(status: str, error: str) -> Facts:
    return {"status": status, "error": error}


def _child(work: Callable[..., Facts], arguments: tuple[Any, ...], sender: Any) -> None:
    os.setsid()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        facts = {"status": "ok", **work(*arguments)}
    except BaseException as error:  # whatever is raised is what the cell shows
        facts = _failed("error", told(error))
    sender.send(facts)
