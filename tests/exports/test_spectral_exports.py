"""Exported models that transform: FNet, long convolutions, spectrograms; against PyTorch itself."""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from harness import make_context, run_model

from burnish.optimizer.contract import Choice, relative_l2
from burnish.passes import REGISTRY
from burnish.passes.recover.onnxsim import Onnxsim
from burnish.passes.restructure.spectral.spectral import Spectral

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "windows"))

import spectral_models

CLOSE = 2e-5
"""The activations of FNet grow with the square root of what is mixed."""


class Spectrogram(torch.nn.Module):
    """Energies of the frequencies of frames, [batch, frequencies, frames]."""

    def __init__(self) -> None:
        super().__init__()
        self.window = torch.nn.Buffer(torch.hann_window(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.stft(x, 16, 5, window=self.window, center=False, return_complex=False)
        return parts.pow(2).sum(-1)


MODULES: dict[str, tuple[Any, torch.Tensor, dict[int, str]]] = {
    "fnet": (spectral_models.fnet(24, 2, 20), spectral_models.ids(20), {0: "batch"}),
    "fnet, any length": (
        spectral_models.fnet(24, 2, 20), spectral_models.ids(20), {0: "batch", 1: "sequence"}),
    "convolution": (
        spectral_models.Convolutions(8, 64, 2), spectral_models.signal(64, 8), {0: "batch"}),
    "many filters": (
        spectral_models.Convolutions(48, 512, 1), spectral_models.signal(512, 48), {0: "batch"}),
    "frames": (Spectrogram(), torch.randn(1, 90), {0: "batch"}),
}  # fmt: skip

EXPECTED = {
    "fnet": "transforms: 2 as quarters",
    "fnet, any length": "transforms: 2 as halves",
    "convolution": "transforms: 2 as spectrum in two steps by 16",
    "many filters": "transforms: 1 as spectrum in two steps by 64",
    "frames": "transforms: 1 as convolution",
}


def exported(
    module: torch.nn.Module, x: torch.Tensor, axes: dict[int, str], path: Path, opset: int,
    dynamo: bool,
) -> ir.Model:  # fmt: skip
    dims = {axis: torch.export.Dim(name, max=64) for axis, name in axes.items()}
    extra: dict[str, Any] = {"dynamic_axes": {"x": axes}}
    if dynamo:
        extra = {"dynamic_shapes": (dims,), "external_data": False, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.cat([x, x]),), path, dynamo=dynamo, opset_version=opset,
            input_names=["x"], output_names=["y"], **extra,
        )  # fmt: skip
    return ir.from_proto(onnx.load(path))


def boldest(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
    return Choice(list(forms)[-1], 1.0, False)


@pytest.mark.parametrize(
    ("name", "opset", "dynamo"),
    [
        *((name, opset, True) for name in MODULES for opset in (17, 20, 23)),
        ("frames", 17, False),
        ("frames", 20, False),
    ],
)
@pytest.mark.filterwarnings("ignore:stft with return_complex=False is deprecated")
def test_exports(name: str, opset: int, dynamo: bool, tmp_path: Path) -> None:
    """After the passes before it, which may write anything; nothing is transformed any more."""
    module, x, axes = MODULES[name]
    model = exported(module.eval(), x, axes, tmp_path / "model.onnx", opset, dynamo)
    context = make_context(boldest, sizes={"batch": 3, "sequence": 20})
    for kind in REGISTRY[: REGISTRY.index(Spectral)]:
        if kind is not Onnxsim:  # a process of its own, and nothing here that it would change
            kind().apply(model, context)
    outcome = Spectral().apply(model, context)

    assert outcome.detail == EXPECTED[name]
    assert outcome.refusals == ()
    kinds = Counter(node.op_type for node in model.graph)
    assert not kinds.keys() & {"DFT", "STFT"}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    rows = torch.cat([x, x.flip(1), x])
    if 1 in axes:
        rows = rows[:, :13]
    with torch.no_grad():
        wide = copy.deepcopy(module).double()
        exact = wide(rows.double() if rows.is_floating_point() else rows).numpy()
    [found] = run_model(model, [{"x": rows.numpy()}])
    assert relative_l2(exact, found["y"].astype(np.float64)) < CLOSE
