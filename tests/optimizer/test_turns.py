"""Processes that take times in turn: siblings stand still, and go on, whoever dies."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.optimizer.errors import BurnishError
from burnish.optimizer.processes import is_stopped, tree
from burnish.optimizer.sandbox import Limits, Worker, call
from burnish.optimizer.turns import Turn, wake_left

LIMITS = Limits(memory=1 << 30, wall=60)


@pytest.fixture(autouse=True)
def targets_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


class Ticking:
    """A sibling that says that it runs, as long as it does."""

    def __init__(self) -> None:
        self.ticks = 0
        self.worker = Worker("turn_targets:tick", {}, LIMITS)
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_for_more()

    def _listen(self) -> None:
        with contextlib.suppress(ValueError):  # closed at the end
            for _ in self.worker.events():
                self.ticks += 1

    def wait_for_more(self) -> None:
        before, deadline = self.ticks, time.monotonic() + 20
        while self.ticks == before:
            assert time.monotonic() < deadline, "it stands still"
            time.sleep(0.005)


@pytest.fixture
def sibling() -> Iterator[Ticking]:
    ticking = Ticking()
    yield ticking
    ticking.worker.close()


def test_a_sibling_and_its_children_stand_still_meanwhile(sibling: Ticking, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    order = {"file": str(tmp_path / "turn"), "other": sibling.worker.pid}
    call("turn_targets:take_turn", order, LIMITS, seen.append)
    assert seen == [{"stopped": [True, True]}]
    sibling.wait_for_more()
    assert (tmp_path / "turn").read_bytes() == b""


def test_a_holder_that_dies_leaves_nobody_stopped(sibling: Ticking, tmp_path: Path) -> None:
    file = tmp_path / "turn"
    with pytest.raises(BurnishError):
        call("turn_targets:take_turn", {"file": str(file), "die": True}, LIMITS)
    assert all(is_stopped(pid) for pid in tree(sibling.worker.pid))
    wake_left(file)
    sibling.wait_for_more()


def test_the_next_holder_wakes_what_the_last_one_left(sibling: Ticking, tmp_path: Path) -> None:
    file = tmp_path / "turn"
    with pytest.raises(BurnishError):
        call("turn_targets:take_turn", {"file": str(file), "die": True}, LIMITS)
    call("turn_targets:take_turn", {"file": str(file), "other": 0}, LIMITS)
    sibling.wait_for_more()


def test_without_a_file_nothing_is_done(sibling: Ticking) -> None:
    with Turn(None) as turn:
        turn.hold()
        sibling.wait_for_more()


def test_there_may_be_nothing_to_wake(tmp_path: Path) -> None:
    wake_left(tmp_path / "turn")
    (tmp_path / "turn").touch()
    wake_left(tmp_path / "turn")


ELSEWHERE = """
import sys
from pathlib import Path
from burnish.optimizer.sandbox import Limits, Worker
from burnish.optimizer.turns import in_turn_with
with in_turn_with(Path(sys.argv[1])):
    with Worker("turn_targets:tick", {}, Limits(memory=1 << 30, wall=60)) as worker:
        next(iter(worker.events()))
        print(worker.pid, flush=True)
        sys.stdin.read()
"""


def test_children_of_another_parent_stand_still_too(tmp_path: Path) -> None:
    """Workers of a cluster on one machine are no children of one process."""
    file, seen = tmp_path / "turn", list[dict[str, Any]]()
    words = [sys.executable, "-c", ELSEWHERE, str(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        order = {"file": str(file), "other": int(other.stdout.readline())}
        call("turn_targets:take_turn", order, LIMITS, seen.append)
        assert not is_stopped(order["other"])
        other.stdin.close()
    assert seen == [{"stopped": [True, True]}]
    assert list(tmp_path.iterdir()) == [file]
