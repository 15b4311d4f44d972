"""The Python interface: what `import burnish` offers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from burnish import driver, report
from burnish.driver import Request, Result
from burnish.optimizer.errors import UsageError
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.tasks import open_task


def optimize(model: str | os.PathLike[str], **options: Any) -> Result:
    """Optimize a model file; the options are the fields of `driver.Request`.

    Returns:
        The result: `.report` (JSON schema 1), `.path`, and `.save(path)`.

    Raises:
        BurnishError: see the tree in `burnish.optimizer.errors`.
    """
    return driver.optimize(Request(os.fspath(model), **options))


class Inspection(dict[str, Any]):
    """What a model is, as data; notebooks show it as a page."""

    def _repr_html_(self) -> str | None:
        """The page for a notebook; None, for the plain form, without the extra `report`."""
        return report.fragment(self)


def inspect(model: str | os.PathLike[str]) -> Inspection:
    """What a model is: ports, operators, weights, work; see `optimize inspect`."""
    return Inspection(driver.inspect(Request(os.fspath(model))))


def load(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 0,
    task: str | None = None,
) -> Any:
    """An artifact, ready to run.

    Args:
        path: an .onnx file, or an artifact folder.
        provider: `cpu`, `cuda`, `tensorrt` or `openvino`.
        threads: 0 for the runtime's own choice.
        task: what a file's model is for; of a folder, the manifest tells.

    Returns:
        Of a file, a `Runtime`, whose `run` has the signature of `InferenceSession.run`; of a
        folder, or where a task is named, what answers for the task: see `runtimes.tasks` and
        `runtimes.generate`.

    Raises:
        UsageError: where the provider is not known, or does not start here.
        UnsupportedModel: where it does not accept the model, or no answers are made for the task.
    """
    if Path(path).is_dir() or task:
        name = named(task).name if task else None
        return open_task(Path(path), provider=provider, threads=threads, task=name)
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider} is not known", hint=", ".join(PROVIDERS))
    return PROVIDERS[provider].open(Path(path), provider=provider, threads=threads)
