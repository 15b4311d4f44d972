"""Rows of a model's activations on all feeds, one feed after the other, on disk and never at once.

A `Course` runs a model once from its inputs to its outputs, with stops on the way: what later nodes
need is kept in files, so that a weight behind a stop may still change before it goes on.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.executor import Executor, Job
from burnish.optimizer.regions import captured, cut
from burnish.optimizer.saving import save


@dataclass(frozen=True)
class Activations:
    """Feeds, and what runs models on them.

    Attributes:
        executor: runs models.
        feeds: folders of the feeds, as `Executor.store` gives them.
        masks: inputs [batch, sequence] that are 0 at padding; rows of it are left out.
        judging: feeds that answers are compared on, which weights are not found with.
        told: takes what is being done, in words.
    """

    executor: Executor
    feeds: Sequence[Path]
    masks: Collection[str] = ()
    judging: Sequence[Path] = ()
    told: Callable[[str], None] = lambda text: None

    def run(
        self, model: ir.Model, feeds: Sequence[Sequence[Path]], *, optimize: bool = False
    ) -> Path:
        """The folder with a folder of outputs for each run, for the caller to remove.

        Raises:
            BurnishError: where it does not run on one of the feeds.
        """
        folder = self.executor.folder()
        path = folder / "model.onnx"
        save(model, path, external=False)
        job = Job(path, [[*items] for items in feeds], folder, optimize=optimize)
        report = self.executor.run([job])[0]
        path.unlink()
        if report["error"] or report["failed"]:
            shutil.rmtree(folder, ignore_errors=True)
            reason = report["error"] or next(iter(report["failed"].values()))
            raise BurnishError(f"it does not run on the data: {reason}")
        return folder

    def real(self, index: int, rows: int) -> Array:
        """Which of so many rows of a feed belong to tokens."""
        feed = self.executor.read(self.feeds[index], self.masks)
        for name in self.masks:
            if name in feed and feed[name].size == rows:
                return np.flatnonzero(feed[name])
        return np.arange(rows)

    def course(self, model: ir.Model) -> Course:
        """The model at its start."""
        return Course(self, model)


class Course:
    """A model on its way over all feeds.

    Args:
        activations: the feeds.
        model: nodes behind the current stop may change, those before it may not.
    """

    def __init__(self, activations: Activations, model: ir.Model) -> None:
        self._activations = activations
        self._model = model
        self._known: list[str] = []
        # What each run left, with the names of it; a folder goes once none of them is needed.
        self._made: dict[Path, list[str]] = {}

    def stop_before(self, node: ir.Node) -> None:
        """Go on until all is computed that stands before a node, and is needed from there on."""
        needed = _frontier(self._model, node)
        new = [name for name in needed if name not in self._known]
        if new:
            part = cut(self._model, [*_inputs(self._model), *self._known], new)
            given = [self._before(index) for index in range(len(self._activations.feeds))]
            self._made[self._activations.run(part, given)] = new
        for folder, names in list(self._made.items()):
            if not {*names} & {*needed}:
                shutil.rmtree(folder, ignore_errors=True)
                del self._made[folder]
        self._known = needed

    def rows(self, name: str) -> Iterator[Array]:
        """The rows [tokens, channels] of a value that is known here, feed by feed."""
        executor = self._activations.executor
        made = next((folder for folder, names in self._made.items() if name in names), None)
        for index, feed in enumerate(self._activations.feeds):
            found = executor.read(made / str(index) if made else feed, [name])
            array = found[name].reshape(-1, found[name].shape[-1])
            yield array[self._activations.real(index, len(array))]

    def behind(self, changed: ir.Model, given: Sequence[Sequence[Path]]) -> Iterator[list[Feeds]]:
        """The outputs that are still to come, feed by feed, once for each of `given`.

        Args:
            changed: the model, where it has more inputs behind the stop.
            given: folders with those inputs; of what two of them hold the later one's is taken.
        """
        computed = (value for value in changed.graph.outputs if value.producer() is not None)
        wanted = [value.name or "" for value in computed if value.name not in self._known]
        part = cut(changed, [*_inputs(changed), *self._known], wanted)
        feeds = self._activations.feeds
        runs = [[*self._before(index), *more] for more in given for index in range(len(feeds))]
        results = self._activations.run(part, runs, optimize=True)
        numbers = itertools.count()
        for _ in given:
            folders = [results / str(next(numbers)) for _ in feeds]
            yield [self._activations.executor.read(folder) for folder in folders]
        shutil.rmtree(results, ignore_errors=True)

    def _before(self, index: int) -> list[Path]:
        """What a run from here on is given of a feed."""
        return [self._activations.feeds[index], *(folder / str(index) for folder in self._made)]

    def anew(self) -> Course:
        """Another course of the same model, at its start."""
        return Course(self._activations, self._model)

    def end(self) -> None:
        """Remove what was kept."""
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
        self._made = {}


def _inputs(model: ir.Model) -> list[str]:
    weights = model.graph.initializers
    return [value.name or "" for value in model.graph.inputs if value.name not in weights]


def _frontier(model: ir.Model, node: ir.Node) -> list[str]:
    """Names of what is computed before a node and read by it, by later ones, or as an output.

    What comes of weights alone, as a transpose does, is computed where it is read: weights change.
    """
    made: dict[ir.Value, None] = {}
    fixed = {value for value in model.graph.initializers.values() if not value.is_graph_input()}
    needed: dict[str, None] = {}
    behind = False
    for item in model.graph:
        behind = behind or item is node
        if not behind:
            read = captured(item)
            if read and all(value in fixed for value in read):
                fixed.update(item.outputs)
            else:
                made |= dict.fromkeys(item.outputs)
            continue
        needed |= {value.name or "": None for value in captured(item) if value in made}
    outputs = (value for value in model.graph.outputs if value in made)
    return list(needed | {value.name or "": None for value in outputs})
