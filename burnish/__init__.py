"""Burnish: an optimizing compiler for Transformers on ONNX.

Example:
    result = burnish.optimize("model.onnx", int8=True, progress=print)
    print(result.path, result.report["latency"])
    outputs = burnish.load(result.path).run(None, feeds)

The library logs to the logger "burnish": stages of the work at INFO, what a user should know at
WARNING, and every place that was left alone at DEBUG. It sets no level and adds no handler of its
own but one that does nothing.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.driver.api import BurnishError, Options, Progress, Result, inspect, load, optimize

__version__ = "0.1.0"

__all__ = [
    "BurnishError",
    "Options",
    "Progress",
    "Result",
    "__version__",
    "inspect",
    "load",
    "optimize",
]  # fmt: skip

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # On demand, so that a sandboxed child loads no more than its own work needs.
    if name in __all__:
        return getattr(import_module("burnish.driver.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
