"""The Python interface: what `import burnish` offers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from burnish import driver
from burnish.driver import Request, Result
from burnish.optimizer.errors import UsageError
from burnish.runtimes.interface import Runtime
from burnish.runtimes.providers import PROVIDERS


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


def load(path: str | os.PathLike[str], *, provider: str = "cpu", threads: int = 0) -> Runtime:
    """A session on an artifact; `run` has the signature of `InferenceSession.run`.

    Raises:
        UsageError: where the provider is not known, or does not start here.
        UnsupportedModel: where it does not accept the model.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider} is not known", hint=", ".join(PROVIDERS))
    return PROVIDERS[provider].open(Path(path), provider=provider, threads=threads)
