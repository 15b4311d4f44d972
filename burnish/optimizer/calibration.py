"""What values a model's activations take on feeds: ranges and some rows, in constant memory."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array, Observation
from burnish.optimizer.executor import Executor, Job
from burnish.optimizer.model import add_initializer
from burnish.optimizer.regions import cut
from burnish.optimizer.saving import save
from burnish.optimizer.verify import ports_of

BOUNDS = ("ReduceMin", "ReduceMax")

ROWS = 1024
"""Rows of each activation that are kept, over all feeds, however many there are."""

PICKED = "picked_rows"
"""Input of the observed model: which rows of a feed are kept."""


class Calibration:
    """A `contract.Observer`: runs the model with its activations reduced where they arise.

    Args:
        executor: runs models.
        feeds: folders of the feeds, as `Executor.store` gives them.
        masks: inputs [batch, sequence] that are 0 at padding; rows of it are not kept.
        real: whether the feeds are the user's data; rows of others are not kept.
    """

    def __init__(
        self,
        executor: Executor,
        feeds: Sequence[Path],
        masks: Collection[str] = (),
        *,
        real: bool = False,
    ) -> None:
        self._executor = executor
        self._feeds = list(feeds)
        self._known: dict[str, Observation] = {}
        self.real = real
        self._picks = executor.store(self._picked(masks)) if real and feeds else []

    def __call__(
        self, model: ir.Model, names: Sequence[str], *, fresh: bool = False
    ) -> dict[str, Observation]:
        """What was observed; none where the model does not run with more outputs.

        A value keeps its range in every later form of the model: passes rename what they change.
        What is seen `fresh` is that of this form alone, and not remembered.
        """
        if fresh:
            inputs = {value.name for value in model.graph.inputs}
            given = [name for name in names if name in inputs]
            computed = [name for name in names if name not in inputs]
            seen = self._observe(model, computed) if computed and self._feeds else {}
            return seen | (self._from_feeds(given) if given else {})
        unknown = [name for name in names if name not in self._known] if self._feeds else []
        inputs = {value.name for value in model.graph.inputs}
        made = {value.name for node in model.graph for value in node.outputs}
        if given := [name for name in unknown if name in inputs]:
            self._known |= self._from_feeds(given)
        if computed := [name for name in unknown if name in made]:
            self._known |= self._observe(model, computed)
        return {name: self._known[name] for name in names if name in self._known}

    def _picked(self, masks: Collection[str]) -> list[dict[str, Array]]:
        """Which rows are kept of each feed: an even share, of real tokens."""
        bounds = np.arange(len(self._feeds) + 1) * ROWS // len(self._feeds)
        picked = []
        for folder, share in zip(self._feeds, np.diff(bounds).tolist(), strict=True):
            feed = self._executor.read(folder)
            real = [np.flatnonzero(feed[name]) for name in masks if name in feed]
            among = real[0] if real and real[0].size else np.arange(share)
            spread = np.linspace(0, len(among) - 1, min(share, len(among))).round().astype(np.int64)
            picked.append({PICKED: among[spread]})
        return picked

    def _from_feeds(self, names: Sequence[str]) -> dict[str, Observation]:
        """Observations of inputs, which need no run; none of what is empty in every feed."""
        joined: dict[str, _Joined] = {}
        for index, folder in enumerate(self._feeds):
            feed = self._executor.read(folder)
            for name in names:
                if not feed[name].size:  # caches before the first token
                    continue
                flat = feed[name].reshape(-1, feed[name].shape[-1])
                picks = self._picks[index : index + 1]
                rows = [flat[self._executor.read(pick)[PICKED] % len(flat)] for pick in picks]
                joined.setdefault(name, _Joined()).add(flat.min(0), flat.max(0), *rows)
        return {name: item.observation() for name, item in joined.items()}

    def _observe(self, model: ir.Model, names: Sequence[str]) -> dict[str, Observation]:
        folder = self._executor.folder()
        try:
            observed = cut(model, ports_of(model), names)
            outputs = _reduce(observed, rows=bool(self._picks))
            save(observed, folder / "observed.onnx", external=False)
            given = (self._feeds, self._picks)
            feeds = [[*folders] for folders in zip(*filter(None, given), strict=True)]
            report = self._executor.run([Job(folder / "observed.onnx", feeds, folder)])[0]
            if report["error"] or report["failed"]:
                return {}
            joined = {name: _Joined() for name in outputs}
            for index in range(len(self._feeds)):
                run = self._executor.read(folder / str(index))
                for name, parts in outputs.items():
                    joined[name].add(*(run[part] for part in parts))
            return {name: item.observation() for name, item in joined.items()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Joined:
    """What was seen of one value, feed by feed; as one channel where their number varies."""

    _least: Array | None = None
    _largest: Array | None = None
    _rows: list[Array] | None = field(default_factory=list)

    def add(self, least: Array, largest: Array, *rows: Array) -> None:
        """Take in one feed: bounds of each channel, and maybe some rows."""
        if self._least is None or self._largest is None:
            self._least, self._largest = least, largest
        elif least.shape != self._least.shape:
            low = min(array.min(initial=np.inf) for array in (self._least, least))
            high = max(array.max(initial=-np.inf) for array in (self._largest, largest))
            self._least, self._largest, self._rows = np.array([low]), np.array([high]), None
        else:
            self._least = np.minimum(self._least, least)
            self._largest = np.maximum(self._largest, largest)
        if self._rows is not None:
            self._rows += rows

    def observation(self) -> Observation:
        """Of all feeds together."""
        assert self._least is not None and self._largest is not None
        rows = np.concatenate(self._rows) if self._rows else None
        return Observation(self._least, self._largest, rows)


def _reduce(model: ir.Model, *, rows: bool) -> dict[str, list[str]]:
    """Let a model give the least and the largest of each channel of its outputs, and some rows.

    Returns:
        For each of the old outputs the names of the new ones.
    """
    graph = model.graph
    values = list(graph.outputs)
    graph.outputs.clear()
    axes = add_initializer(graph, "rows", ir.tensor(np.array([0])))
    picked = ir.val(PICKED, ir.DataType.INT64, ["picked"])
    if rows:
        graph.inputs.append(picked)
    found = {}
    for value in values:
        flat = ir.node("Flatten", [value], {"axis": -1})
        graph.append(flat)
        source = flat.outputs[0]
        made = [_bound(graph, model.opset_imports[""], item, source, axes) for item in BOUNDS]
        if rows:
            made.append(_some_rows(graph, source, picked, axes))
        for output in made:
            output.name, output.type = f"observed_{len(graph.outputs)}", value.type
            graph.outputs.append(output)
        found[value.name or ""] = [output.name or "" for output in made]
    return found


def _bound(
    graph: ir.Graph, opset: int, operator: str, source: ir.Value, axes: ir.Value
) -> ir.Value:
    """The least or the largest of each column."""
    if opset >= 18:
        node = ir.node(operator, [source, axes], {"keepdims": 0})
    else:
        node = ir.node(operator, [source], {"keepdims": 0, "axes": (0,)})
    graph.append(node)
    return node.outputs[0]


def _some_rows(graph: ir.Graph, source: ir.Value, picked: ir.Value, axis: ir.Value) -> ir.Value:
    """The picked rows; where there are fewer than there are tokens, those at the remainders."""
    shape = ir.node("Shape", [source])
    count = ir.node("Gather", [shape.outputs[0], axis])
    index = ir.node("Mod", [picked, count.outputs[0]])
    rows = ir.node("Gather", [source, index.outputs[0]], {"axis": 0})
    graph.extend([shape, count, index, rows])
    return rows.outputs[0]
