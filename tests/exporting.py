"""Exporting Transformers models: sample inputs, wrappers with positional inputs, both exporters."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

Inputs = dict[str, tuple[torch.Tensor, dict[int, str]]]
"""Sample values and dynamic axes by input."""

ROWS = {0: "batch", 1: "sequence"}

LONGEST = 64
"""Upper bound of every dynamic axis that counts tokens; positions are at least as many."""


class Outputs(torch.nn.Module):
    """A model with positional inputs and its first output."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        extra = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        result = self.model(**dict(zip(self.names, values, strict=True)), **extra)
        return result[0]


class Cached(torch.nn.Module):
    """A decoder that takes its caches and gives them back, grown."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> Any:
        cache = hf.DynamicCache(config=self.model.config)
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        # The cache's keyword changes between versions of Transformers.
        known = inspect.signature(self.model.forward).parameters
        keyword = "cache" if "cache" in known else "past_key_values"
        logits, grown = self.model(
            input_ids=ids, attention_mask=mask, use_cache=True, **{keyword: cache}
        )[:2]
        return (logits, *(part for item in grown.layers for part in (item.keys, item.values)))


class Decoder(torch.nn.Module):
    """The decoder of a sequence-to-sequence model with its head, to be fed by name."""

    def __init__(self, decoder: torch.nn.Module, head: torch.nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head
        self.config = decoder.config

    def forward(self, **inputs: Any) -> tuple[torch.Tensor]:
        return (self.head(self.decoder(**inputs)[0]),)


def export(
    module: torch.nn.Module, inputs: Inputs, path: Path, exporter: str, opset: int,
    *, automatic: bool = False,
) -> None:  # fmt: skip
    """Write the module to `path`.

    Args:
        module: a model of the Transformers, or one of the wrappers above.
        inputs: sample values and dynamic axes, in the order of the module's parameters.
        path: of the ONNX file.
        exporter: `torchscript` or `dynamo`.
        opset: the operator set to ask the exporter for.
        automatic: dynamo finds out which axes are dynamic; names of axes are lost.
    """
    module = wrapped(module, inputs)
    values = tuple(value for value, _ in inputs.values())
    axes = {name: dims for name, (_, dims) in inputs.items()}
    with torch.no_grad():
        result = module(*values)
    outputs = ["output"]
    if not isinstance(result, torch.Tensor):
        outputs += [f"present.{index}" for index in range(len(result) - 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(
                module, values, path, dynamo=False, opset_version=opset,
                input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
            )  # fmt: skip
        else:
            dims = tuple(
                {axis: _dim("total" if automatic else name) for axis, name in item.items()}
                for item in axes.values()
            )
            torch.onnx.export(
                module, values, path, dynamo=True, opset_version=opset,
                input_names=list(inputs), output_names=outputs,
                dynamic_shapes=_shapes(module, dims), external_data=False, verbose=False,
            )  # fmt: skip


def wrapped(module: torch.nn.Module, inputs: Inputs) -> torch.nn.Module:
    """The module with positional parameters, ready to run."""
    if not isinstance(module, Cached):
        module = Outputs(module, tuple(inputs))
    return module.eval()


def _shapes(module: torch.nn.Module, dims: tuple[Any, ...]) -> Any:
    """Dynamic axes by parameter: variadic parameters are one tuple in the exporter's eyes."""
    return (*dims[:2], dims[2:]) if isinstance(module, Cached) else (dims,)


def _dim(name: str) -> Any:
    if name == "total":  # past and sequence together, as the exporter finds out
        return torch.export.Dim.AUTO
    free = name in ("batch", "samples")
    return torch.export.Dim(name, **({} if free else {"max": LONGEST}))
