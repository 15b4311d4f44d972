"""What values a model's activations take on feeds: ranges by channel, in constant memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array
from burnish.optimizer.executor import Executor, Job
from burnish.optimizer.model import add_initializer
from burnish.optimizer.regions import cut
from burnish.optimizer.saving import save
from burnish.optimizer.verify import ports_of

BOUNDS = ("ReduceMin", "ReduceMax")


class Calibration:
    """A `contract.Observer`: runs the model with its activations reduced where they arise.

    Args:
        executor: runs models.
        feeds: folders of the feeds, as `Executor.store` gives them.
    """

    def __init__(self, executor: Executor, feeds: Sequence[Path]) -> None:
        self._executor = executor
        self._feeds = list(feeds)
        self._known: dict[str, Array] = {}

    def __call__(self, model: ir.Model, names: Sequence[str]) -> dict[str, Array]:
        """The ranges; none where the model does not run with them as outputs.

        A value keeps its range in every later form of the model: passes rename what they change.
        """
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self._known |= self._observe(model, unknown)
        return {name: self._known[name] for name in names if name in self._known}

    def _observe(self, model: ir.Model, names: Sequence[str]) -> dict[str, Array]:
        folder = self._executor.folder()
        try:
            observed = cut(model, ports_of(model), names)
            outputs = _reduce(observed)
            save(observed, folder / "observed.onnx", external=False)
            job = Job(folder / "observed.onnx", [[feed] for feed in self._feeds], folder)
            report = self._executor.run([job])[0]
            if report["error"] or report["failed"]:
                return {}
            runs = [self._executor.read(folder / str(i)) for i in range(len(self._feeds))]
            return {
                name: np.stack(
                    [
                        np.min([run[least] for run in runs], axis=0),
                        np.max([run[largest] for run in runs], axis=0),
                    ]
                )
                for name, (least, largest) in outputs.items()
            }
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _reduce(model: ir.Model) -> dict[str, tuple[str, str]]:
    """Let the model give the least and the largest of each channel of its outputs; their names."""
    graph = model.graph
    values = list(graph.outputs)
    graph.outputs.clear()
    axes = add_initializer(graph, "rows", ir.tensor(np.array([0])))
    found = {}
    for index, value in enumerate(values):
        rows = ir.node("Flatten", [value], {"axis": -1})
        graph.append(rows)
        names = []
        for operator in BOUNDS:
            if model.opset_imports[""] >= 18:
                node = ir.node(operator, [rows.outputs[0], axes], {"keepdims": 0})
            else:
                node = ir.node(operator, [rows.outputs[0]], {"keepdims": 0, "axes": (0,)})
            bound = node.outputs[0]
            bound.name, bound.type = f"{operator}_{index}", ir.TensorType(ir.DataType.FLOAT)
            graph.append(node)
            graph.outputs.append(bound)
            names.append(bound.name)
        found[value.name or ""] = (names[0], names[1])
    return found
