"""Burnish: an optimizing compiler for Transformers on ONNX.

Example:
    result = burnish.optimize("model.onnx", int8=True)
    print(result.path, result.report["latency"])
    outputs = burnish.load(result.path).run(None, feeds)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.driver.api import inspect, load, optimize

__version__ = "0.1.0"

__all__ = ["__version__", "inspect", "load", "optimize"]


def __getattr__(name: str) -> Any:
    # On demand, so that a sandboxed child loads no more than its own work needs.
    if name in __all__:
        return getattr(import_module("burnish.driver.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
