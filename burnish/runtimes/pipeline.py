"""Runs the stages of a plan: one after the other for one feed, all at once for many.

Each stage has a session and a thread of its own, and queues of few places lie between them, so that
a slow stage holds back those before it and memory stays bounded. ONNX Runtime lets other threads go
on while it computes. Results come in the order of the feeds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import MANIFEST, PIPELINE
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.onnxruntime import Session

BETWEEN = 2
"""Feeds that wait before a stage: one is computed while the next is handed over."""

Values = dict[str, Array]


@dataclass(frozen=True)
class _Stage:
    """A stage's session, and by name what it takes and gives."""

    session: Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Failed:
    """What went wrong with a feed, on its way to whoever asked for it."""

    error: BaseException


class Pipeline:
    """The stages of a folder that `optimize plan -o` wrote; see `interface.Runtime`.

    Args:
        folder: with the manifest and the stages.
        provider: of all stages.
        threads: of each stage; 0 for the machine's processors shared among them.

    Raises:
        InvalidModel: the manifest is none of a pipeline.
        UsageError, UnsupportedModel: see `onnxruntime.Session`.
    """

    def __init__(self, folder: Path, *, provider: str = "cpu", threads: int = 0) -> None:
        told = told_in(folder / MANIFEST)
        rows = told.get("stages") if told.get("task") == PIPELINE else None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise InvalidModel("the manifest names no stages", place=MANIFEST)
        each = threads or max(1, (os.cpu_count() or 1) // len(rows))
        self.inputs, self.outputs = _names(told, "inputs"), _names(told, "outputs")
        self._stages: list[_Stage] = []
        with contextlib.ExitStack() as opened:
            for row in rows:
                # A name without folders: nothing outside of the artifact is opened.
                path = folder / Path(str(row.get("file"))).name
                session = Session(path, provider=provider, threads=each)
                opened.callback(session.close)
                stage = _Stage(session, _names(row, "inputs"), _names(row, "outputs"))
                self._stages.append(stage)
            opened.pop_all()
        self._last = _last_uses(self._stages, self.outputs)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order."""
        names = self._known(output_names)
        values = self._given(input_feed)
        for index in range(len(self._stages)):
            values = self._step(index, values)
        return [values[name] for name in names]

    def map(
        self, feeds: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order, with every stage at work on another feed.

        Feeds are taken as there is room for them. An error of a feed is raised in its turn, and
        ends the work; so does closing the iterator.
        """
        names = self._known(output_names)
        queues: list[queue.Queue[Values | _Failed | None]] = [
            queue.Queue(BETWEEN) for _ in range(len(self._stages) + 1)
        ]
        stopped = threading.Event()
        workers = [
            threading.Thread(target=self._work, args=(index, queues, stopped), daemon=True)
            for index in range(len(self._stages))
        ]
        feeder = threading.Thread(target=self._feed, args=(feeds, queues[0], stopped), daemon=True)
        for worker in (*workers, feeder):
            worker.start()
        try:
            while (found := queues[-1].get()) is not None:
                if isinstance(found, _Failed):
                    raise found.error
                yield [found[name] for name in names]
        finally:
            stopped.set()
            for worker in (*workers, feeder):
                worker.join()

    def _feed(
        self,
        feeds: Iterable[Mapping[str, Array]],
        first: queue.Queue[Values | _Failed | None],
        stopped: threading.Event,
    ) -> None:
        try:
            for feed in feeds:
                if not _put(first, self._given(feed), stopped):
                    return
        except Exception as error:  # the caller's iterable may raise anything
            _put(first, _Failed(error), stopped)
        _put(first, None, stopped)

    def _work(
        self,
        index: int,
        queues: Sequence[queue.Queue[Values | _Failed | None]],
        stopped: threading.Event,
    ) -> None:
        """Compute a stage for all that comes, until nothing more does."""
        while not stopped.is_set():
            try:
                item = queues[index].get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(item, dict):
                try:
                    item = self._step(index, item)
                except Exception as error:  # whatever a session raises belongs to the feed
                    item = _Failed(error)
            if not _put(queues[index + 1], item, stopped) or item is None:
                return

    def _step(self, index: int, values: Values) -> Values:
        """What is known after a stage; what no later one reads is let go."""
        stage = self._stages[index]
        found = stage.session.run(stage.outputs, {name: values[name] for name in stage.inputs})
        known = values | dict(zip(stage.outputs, found, strict=True))
        return {name: value for name, value in known.items() if self._last.get(name, -1) > index}

    def _given(self, feed: Mapping[str, Array]) -> Values:
        if missing := [name for name in self.inputs if name not in feed]:
            raise UsageError(f"input {missing[0]} is missing", hint=", ".join(self.inputs))
        return {name: feed[name] for name in self.inputs}

    def _known(self, names: Sequence[str] | None) -> Sequence[str]:
        asked = list(names) if names else list(self.outputs)
        if unknown := [name for name in asked if name not in self.outputs]:
            raise UsageError(f"there is no output {unknown[0]}", hint=", ".join(self.outputs))
        return asked

    def get_inputs(self) -> list[Any]:
        """The inputs, in order; each has a `name`."""
        return _ports(self.inputs, [item.session.get_inputs() for item in self._stages])

    def get_outputs(self) -> list[Any]:
        """The outputs, in order; each has a `name`."""
        return _ports(self.outputs, [item.session.get_outputs() for item in self._stages])

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`: of all stages together."""
        counts: dict[str, int] = {}
        for stage in self._stages:
            for operator, count in stage.session.fallen() or ():
                counts[operator] = counts.get(operator, 0) + count
        return sorted(counts.items(), key=lambda item: -item[1])

    def close(self) -> None:
        """Free the sessions; a second call does nothing."""
        for stage in self._stages:
            stage.session.close()


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds stages of a plan."""
    return told_in(folder / MANIFEST).get("task") == PIPELINE


def _names(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The names that a manifest lists under a key."""
    names = told.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidModel(f"the manifest lists no {key}", place=MANIFEST)
    return tuple(names)


def _put(
    place: queue.Queue[Values | _Failed | None],
    item: Values | _Failed | None,
    stopped: threading.Event,
) -> bool:
    """Hand something on once there is room; whether anybody still wants it."""
    while not stopped.is_set():
        try:
            place.put(item, timeout=0.05)
        except queue.Full:
            continue
        return True
    return False


def _last_uses(stages: Sequence[_Stage], outputs: Sequence[str]) -> dict[str, int]:
    """The last stage that reads each value; behind all of them for outputs."""
    found = {name: index for index, stage in enumerate(stages) for name in stage.inputs}
    return found | dict.fromkeys(outputs, len(stages))


def _ports(names: Sequence[str], of_stages: Iterable[Iterable[Any]]) -> list[Any]:
    known = {port.name: port for ports in of_stages for port in ports}
    return [known[name] for name in names if name in known]
