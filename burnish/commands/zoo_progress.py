"""How a zoo gets on: bars on a terminal, a line for each model elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from burnish import driver
from burnish.commands.terminal import errors
from burnish.optimizer.errors import printable
from burnish.rendering.report import safe

ESTIMATED_OVER = 3600.0
"""Seconds of which the speed decides about the time left: models end minutes apart."""

LONGEST_NAME = 40


@contextlib.contextmanager
def shown(quiet: bool) -> Iterator[driver.Progress]:
    """Bars with the current pass and the time left, or plain lines, or nothing."""
    if quiet:
        yield lambda event: None
    elif errors.is_terminal and sys.stderr.isatty():
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=errors,
            transient=True,
            speed_estimate_period=ESTIMATED_OVER,
        ) as bars:
            yield _Bars(bars).tell
    else:
        yield _Lines().tell


class _Told:
    """Counts what has ended; events come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = self.done = 0
        self.cost: dict[int, float] = {}

    def tell(self, event: dict[str, Any]) -> None:
        """Take an event, to the method of its name."""
        with self._lock:
            kind = event["event"]
            if kind == "begun":
                self.total, self.cost = event["total"], event["cost"]
            if kind == "finished":
                self.done += 1
            getattr(self, f"_{kind}")(event)

    def _waiting(self, event: dict[str, Any]) -> None:
        holder = f" (process {event['holder']})" if event["holder"] else ""
        errors.print(printable(f"waiting for another run on this folder{holder}"), markup=False)


class _Bars(_Told):
    """A bar for the zoo, and one for each model at work."""

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._all = bars.add_task("looking", total=None, told="")
        self._at_work: dict[int, TaskID] = {}

    def _looking(self, event: dict[str, Any]) -> None:
        told = f"{event['count']} of {event['total']}"
        self._bars.update(self._all, completed=event["count"], total=event["total"], told=told)

    def _begun(self, event: dict[str, Any]) -> None:
        total, told = sum(self.cost.values()) or None, f"0 of {self.total}"
        self._bars.reset(self._all, total=total, description="zoo", told=told)

    def _started(self, event: dict[str, Any]) -> None:
        name = safe(event["name"], LONGEST_NAME)
        self._at_work[event["index"]] = self._bars.add_task(name, total=None, told="")

    def _stage(self, event: dict[str, Any]) -> None:
        if (task := self._at_work.get(event["index"])) is not None:
            self._bars.update(task, told=safe(event["stage"], LONGEST_NAME))

    def _finished(self, event: dict[str, Any]) -> None:
        if (task := self._at_work.pop(event["index"], None)) is not None:
            self._bars.remove_task(task)
        self._bars.update(
            self._all,
            advance=self.cost.get(event["index"], 0.0),
            told=f"{self.done} of {self.total}",
        )


class _Lines(_Told):
    """A line for each model when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._begin = 0.0
        self._spent = 0.0

    def _looking(self, event: dict[str, Any]) -> None:
        pass

    def _begun(self, event: dict[str, Any]) -> None:
        self._begin = time.monotonic()
        known = f", {event['known']} of them known" if event["known"] else ""
        errors.print(f"{event['total']} models{known}", markup=False)

    def _started(self, event: dict[str, Any]) -> None:
        pass

    def _stage(self, event: dict[str, Any]) -> None:
        pass

    def _finished(self, event: dict[str, Any]) -> None:
        row = event["row"]
        if event["index"] not in self.cost and not row["reason"]:
            return  # it was known
        self._spent += self.cost.get(event["index"], 0.0)
        why = f": {row['reason']}" if row["reason"] else ""
        line = f"{self.done} of {self.total}: {row['name']} {row['status']}{why}{self._left()}"
        errors.print(printable(line), markup=False)

    def _left(self) -> str:
        """The time left, by what has been done and what it took."""
        left = sum(self.cost.values()) - self._spent
        if left <= 0 or not self._spent:
            return ""
        seconds = (time.monotonic() - self._begin) * left / self._spent
        return f" (about {max(seconds / 60, 1):.0f} min left)"
