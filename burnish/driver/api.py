"""The Python interface: what `import burnish` offers."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from burnish import driver
from burnish.driver import Request, Result, recipes
from burnish.driver.recipe_options import options_for
from burnish.optimizer.errors import UsageError
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes.pipeline import Pipeline, is_pipeline
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.replicas import Replicas
from burnish.runtimes.tasks import open_task


def optimize(model: str | os.PathLike[str], *, recipe: str | None = None, **options: Any) -> Result:
    """Optimize a model file; the options are the fields of `driver.Request`.

    Args:
        model: an .onnx file, a checkpoint's folder, or a hub id.
        recipe: the name of a shipped recipe, or a YAML file; the options given here win.
        options: fields of the request.

    Returns:
        The result: `.report` (JSON schema 1), `.path`, and `.save(path)`.

    Raises:
        BurnishError: see the tree in `burnish.optimizer.errors`.
    """
    request = Request(os.fspath(model), **options)
    if recipe is not None:
        request = recipes.applied(recipes.named(recipe), request, options_for(options))
    return driver.optimize(request)


def inspect(model: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model is: ports, operators, weights, work; see `optimize inspect`."""
    return driver.inspect(Request(os.fspath(model)))


def load(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 0,
    task: str | None = None,
    replicas: int = 1,
) -> Any:
    """An artifact, ready to run.

    Args:
        path: an .onnx file, or an artifact folder.
        provider: `cpu`, `cuda`, `tensorrt` or `openvino`.
        threads: 0 for the runtime's own choice.
        task: what a file's model is for; of a folder, the manifest tells.
        replicas: how many times a file's model is opened, each with so many threads.

    Returns:
        Of a file, a `Runtime`, whose `run` has the signature of `InferenceSession.run`, or of
        several replicas a `runtimes.replicas.Replicas`, which also takes many feeds; of a
        folder, or where a task is named, what answers for the task: see `runtimes.tasks` and
        `runtimes.generate`; of the stages of a plan, a `runtimes.pipeline.Pipeline`.

    Raises:
        UsageError: where the provider is not known, or does not start here.
        UnsupportedModel: where it does not accept the model, or no answers are made for the task.
    """
    if is_pipeline(Path(path)):
        return Pipeline(Path(path), provider=provider, threads=threads)
    if Path(path).is_dir() or task:
        name = named(task).name if task else None
        return open_task(Path(path), provider=provider, threads=threads, task=name)
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider} is not known", hint=", ".join(PROVIDERS))
    opened = functools.partial(
        PROVIDERS[provider].open, Path(path), provider=provider, threads=threads
    )
    return opened() if replicas == 1 else Replicas([opened() for _ in range(replicas)])
