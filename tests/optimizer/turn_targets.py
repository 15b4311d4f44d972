"""What the tests of turns run in children of the sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.optimizer.processes import is_stopped, tree
from burnish.optimizer.turns import Turn

Emit = Callable[[dict[str, Any]], None]


def tick(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Say that it runs, from a grandchild, until it is ended."""
    code = "import time\nwhile True: print(flush=True); time.sleep(0.005)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline():
            emit({"pid": process.pid})
    return {}


def take_turn(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Have the machine for itself for a while, or die in the middle of it."""
    with Turn(Path(argument["file"])) as turn:
        for _ in range(40):
            turn.hold()
            time.sleep(0.01)
        if argument.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        emit({"stopped": [is_stopped(pid) for pid in tree(argument["other"])]})
    return {}
