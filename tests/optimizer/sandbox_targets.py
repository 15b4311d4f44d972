"""What the tests of the sandbox run in its children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.optimizer import sandbox
from burnish.optimizer.errors import UnsafeInput

Emit = Callable[[dict[str, Any]], None]


def echo(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    return {"got": argument, "pid": os.getpid()}


def count(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    for number in range(argument["to"]):
        emit({"number": number})
    return {"sum": sum(range(argument["to"]))}


def answer(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    for line in sys.stdin:
        emit({"echo": line.strip()})
    return {}


def chatter(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    print('{"result": {"forged": true}}', flush=True)
    os.write(2, b"noise\n" * 100_000)
    return {"forged": False}


def tear(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Write half an answer to every pipe there is, the channel among them, and die."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.write(int(name), b'{"result": {')
    os._exit(3)


def refuse(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    raise UnsafeInput("it reaches outside", place="tensor w", hint="another")


def fail(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    return {"never": {}["key"]}


def recurse(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    return recurse(argument, emit)


def leave(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    raise SystemExit(argument["code"])


def crash(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.Signals[argument["signal"]])
    return {}


def sleep(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    emit({"pid": os.getpid()})
    time.sleep(600)
    return {}


def spin(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    while True:
        pass


def allocate(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    return {"size": len(bytearray(argument["bytes"]))}


def grow(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Take memory in children of the child, each of them within the limit."""
    code = f"held = b'x' * {argument['each']}; input()"
    for _ in range(argument["children"]):
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    time.sleep(600)
    return {}


def nested(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Start a child in the child, say who it is, and wait for it."""
    limits = sandbox.Limits(1 << 30, 600)
    return sandbox.call("sandbox_targets:sleep", {}, limits, emit)


def litter(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    folder = tempfile.mkdtemp()
    (Path(folder) / "file").write_text("left")
    emit({"folder": folder})
    time.sleep(600 if argument["wait"] else 0)
    return {}


def serve(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Say who it is for every order; on demand keep memory, refuse or crash before."""
    kept = []
    for line in sys.stdin:
        order = json.loads(line)
        kept.append(b"x" * order.get("size", 0))
        if order.get("refuse"):
            refuse(order, emit)
        if "signal" in order:
            crash(order, emit)
        emit({"pid": os.getpid()})
    return {}
