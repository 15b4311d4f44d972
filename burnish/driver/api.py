"""The Python interface: what `import burnish` offers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from burnish import driver
from burnish.driver import Request, Result
from burnish.runtimes.onnxruntime import Session


def optimize(model: str | os.PathLike[str], **options: Any) -> Result:
    """Optimize a model file; the options are the fields of `driver.Request`.

    Returns:
        The result: `.report` (JSON schema 1), `.path`, and `.save(path)`.

    Raises:
        BurnishError: see the tree in `burnish.optimizer.errors`.
    """
    return driver.optimize(Request(os.fspath(model), **options))


def inspect(model: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model is: ports, operators, weights, work; see `optimize inspect`."""
    return driver.inspect(Request(os.fspath(model)))


def load(path: str | os.PathLike[str], *, provider: str = "cpu", threads: int = 0) -> Session:
    """A session on an artifact; `run` has the signature of `InferenceSession.run`."""
    return Session(Path(path), provider=provider, threads=threads)
