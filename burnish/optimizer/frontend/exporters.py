"""The exporters of PyTorch, one after the other, each held to what the model itself answers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from burnish.optimizer.frontend.samples import Sample

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
    module: torch.nn.Module, sample: Sample, outputs: list[str], path: Path, way: Way
) -> None:
    """Write a module, with its weights beside it, as `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if way.exporter == DYNAMO:
            _dynamo(module.eval(), sample, outputs, path)
        else:
            _torchscript(module.eval(), sample, outputs, path)


def _torchscript(module: torch.nn.Module, sample: Sample, outputs: list[str], path: Path) -> None:
    torch.onnx.export(
        module, tuple(sample.values.values()), str(path), dynamo=False,
        opset_version=OPSETS[TORCHSCRIPT], input_names=list(sample.values),
        output_names=outputs, dynamic_axes=sample.axes,
    )  # fmt: skip


def _dynamo(module: torch.nn.Module, sample: Sample, outputs: list[str], path: Path) -> None:
    free = torch.export.Dim.AUTO  # whether an axis came out free, the trials show
    shapes = [{axis: free for axis in axes} for axes in sample.axes.values()]
    fixed = len(_parameters(module))
    program = torch.onnx.export(
        module, tuple(sample.values.values()), dynamo=True, opset_version=OPSETS[DYNAMO],
        input_names=list(sample.values), output_names=outputs, verbose=False,
        dynamic_shapes=(*shapes[:fixed], tuple(shapes[fixed:]))
        if len(shapes) > fixed
        else tuple(shapes),
    )  # fmt: skip
    assert program is not None
    name_axes(program.model, sample)
    program.save(str(path), external_data=True)


def _parameters(module: torch.nn.Module) -> list[str]:
    """The parameters of `forward` that are not variadic."""
    import inspect

    kinds = inspect.signature(module.forward).parameters.values()
    return [item.name for item in kinds if item.kind is item.POSITIONAL_OR_KEYWORD]


def name_axes(model: ir.Model, sample: Sample) -> None:
    """Give the symbols of the exporter the names of the axes they stand for."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, name in sample.axes.get(value.name or "", {}).items():
            symbol = value.shape[axis] if value.shape is not None else None
            text = getattr(symbol, "value", None)
            if isinstance(text, str) and text.isidentifier():
                names.setdefault(text, name)
    for value in [*model.graph.inputs, *model.graph.outputs, *_values(model)]:
        if value.shape is None or value.shape.frozen:
            continue
        for axis, size in enumerate(value.shape):
            text = getattr(size, "value", None)
            if isinstance(text, str) and text in names:
                value.shape[axis] = names[text]
    for value in model.graph.inputs:
        for axis, name in sample.axes.get(value.name or "", {}).items():
            if value.shape is not None and not isinstance(value.shape[axis], int):
                value.shape[axis] = name


def _values(model: ir.Model) -> list[Any]:
    return [output for node in model.graph for output in node.outputs]
