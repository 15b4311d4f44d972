"""The table of providers: which runtime serves each, and what there is to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from burnish.runtimes import onnxruntime, openvino
from burnish.runtimes.interface import Runtime


class Open(Protocol):
    """Opens a model file on a provider.

    0 threads is the runtime's default; `optimize` off asks for the graph as it is written, where
    the runtime can do that; `runs` off asks only whether the model is accepted.

    Raises:
        UsageError: where the provider does not start here.
        UnsupportedModel: where it does not accept the model.
    """

    def __call__(
        self,
        path: Path,
        *,
        provider: str,
        threads: int = 0,
        optimize: bool = True,
        runs: bool = True,
    ) -> Runtime: ...


class Explain(Protocol):
    """A failure of the runtime's binding in our terms."""

    def __call__(self, error: Exception) -> Exception: ...


@dataclass(frozen=True)
class Provider:
    """One row.

    Attributes:
        name: the value of `--provider`.
        runtime: what its runtime is called.
        distributions: the runtime may come in any of these; times depend on its version.
        int8: what int8 means there: `products` of integers, `weights` in 8 bits with activations
            in float, or pairs of QuantizeLinear and DequantizeLinear (`qdq`) with ranges from data.
        note: what users of an artifact should know; empty where there is nothing.
    """

    name: str
    runtime: str
    open: Open
    explain: Explain
    distributions: tuple[str, ...]
    int8: str
    note: str = ""


def _of_onnxruntime(name: str, *, int8: str) -> Provider:
    wheels = ("onnxruntime-gpu", "onnxruntime")
    return Provider(
        name, "ONNX Runtime", onnxruntime.Session, onnxruntime.explain, wheels, int8=int8
    )


PROVIDERS: dict[str, Provider] = {
    row.name: row
    for row in (
        _of_onnxruntime("cpu", int8="products"),
        _of_onnxruntime("cuda", int8="weights"),
        _of_onnxruntime("tensorrt", int8="qdq"),
        Provider(
            "openvino",
            "OpenVINO",
            openvino.Session,
            openvino.explain,
            ("openvino",),
            int8="products",
            note=openvino.NOTE,
        ),
    )
}

REFERENCE = "cpu"
"""The provider whose answers all others are held to; it is always there."""

AUTO = "auto"
"""Stands for the fastest of `CANDIDATES` that start here."""

CANDIDATES = (REFERENCE, "openvino", "cuda")
"""What `AUTO` chooses from."""


def versions(provider: str) -> dict[str, str]:
    """Installed versions of what a compilation for the provider depends on."""
    return onnxruntime.versions() | onnxruntime.installed(PROVIDERS[provider].distributions)


def version(provider: str) -> str:
    """The version of the provider's runtime; empty where it is not installed."""
    return next(iter(onnxruntime.installed(PROVIDERS[provider].distributions).values()), "")
