"""The exporters of PyTorch, one after the other, each held to what the model itself answers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from burnish.optimizer.frontend.samples import Axes, Sample
from burnish.optimizer.saving import EXTERNAL_ABOVE

DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"


@dataclass(frozen=True)
class Way:
    """An exporter, and the attention that the model is made with for it."""

    exporter: str
    attention: str

    def __str__(self) -> str:
        return f"{self.exporter}, {self.attention} attention"


WAYS = (
    Way(DYNAMO, "sdpa"),
    Way(DYNAMO, "eager"),
    Way(TORCHSCRIPT, "sdpa"),
    Way(TORCHSCRIPT, "eager"),
)
"""In the order in which they are tried."""

OPSETS = {DYNAMO: 20, TORCHSCRIPT: 17}


def export(
    module: torch.nn.Module, sample: Sample, outputs: dict[str, Axes], path: Path, way: Way
) -> None:
    """Write a module, with its weights beside it, as `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if way.exporter == DYNAMO:
            _dynamo(module.eval(), sample, outputs, path)
        else:
            _torchscript(module.eval(), sample, outputs, path)


def _torchscript(
    module: torch.nn.Module, sample: Sample, outputs: dict[str, Axes], path: Path
) -> None:
    torch.onnx.export(
        module, tuple(sample.values.values()), str(path), dynamo=False,
        opset_version=OPSETS[TORCHSCRIPT], input_names=list(sample.values),
        output_names=list(outputs), dynamic_axes=sample.axes | outputs,
    )  # fmt: skip


def _dynamo(module: torch.nn.Module, sample: Sample, outputs: dict[str, Axes], path: Path) -> None:
    free = torch.export.Dim.AUTO  # whether an axis came out free, the trials show
    shapes = [{axis: free for axis in axes} for axes in sample.axes.values()]
    fixed = len(_parameters(module))
    program = torch.onnx.export(
        module, tuple(sample.values.values()), dynamo=True, opset_version=OPSETS[DYNAMO],
        input_names=list(sample.values), output_names=list(outputs), verbose=False,
        dynamic_shapes=(*shapes[:fixed], tuple(shapes[fixed:]))
        if len(shapes) > fixed
        else tuple(shapes),
    )  # fmt: skip
    assert program is not None
    name_axes(program.model, sample.axes | outputs)
    large = sum(weight.nbytes for weight in module.parameters()) > EXTERNAL_ABOVE
    program.save(str(path), external_data=large)


def _parameters(module: torch.nn.Module) -> list[str]:
    """The parameters of `forward` that are not variadic."""
    kinds = inspect.signature(module.forward).parameters.values()
    return [item.name for item in kinds if item.kind is item.POSITIONAL_OR_KEYWORD]


def name_axes(model: ir.Model, axes: dict[str, Axes]) -> None:
    """Give the symbols of the exporter the names of the axes they stand for.

    Args:
        model: with ports whose free axes the exporter has named.
        axes: what they are called, by port.
    """
    ports = [*model.graph.inputs, *model.graph.outputs]
    names: dict[str, str] = {}
    for value, axis, name in _free(ports, axes):
        names.setdefault(str(value.shape[axis]), name)
    for value in [*ports, *(output for node in model.graph for output in node.outputs)]:
        shape: Any = value.shape or ()
        for axis, size in enumerate(shape):
            if str(size) in names and not isinstance(size, int):
                shape[axis] = names[str(size)]
    for value, axis, name in _free(ports, axes):
        value.shape[axis] = name


def _free(ports: list[Any], axes: dict[str, Axes]) -> Iterator[tuple[Any, int, str]]:
    """Axes of ports that came out free, with their names."""
    for value in ports:
        for axis, name in axes.get(value.name or "", {}).items():
            if value.shape is not None and not isinstance(value.shape[axis], int):
                yield value, axis, name
