"""The Python interface: what `import burnish` offers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from burnish import driver, report
from burnish.driver import Progress, Request, Result, loading, recipes
from burnish.driver.recipe_options import options_for
from burnish.optimizer.errors import BurnishError, UsageError, nearest
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes import ray_cluster

__all__ = ["BurnishError", "Options", "Progress", "Result", "inspect", "load", "optimize"]


class Options(TypedDict, total=False):
    """Keyword arguments of `optimize`, each as the option of that name; see `driver.Request`."""

    output: str | None
    int8: bool
    int4: bool
    int8_weights: bool
    fp16: bool
    bf16: bool
    auto_precision: bool
    points: bool
    static: bool
    keep_embeddings: bool
    level: int
    provider: str
    target_cpu: str
    data: str | None
    tokenizer: str | None
    max_drop: float
    speedup: float | None
    shape: Mapping[str, int]
    threads: int
    seed: int
    memory_limit: int | None
    time_limit: float | None
    tuning: str | None
    check: bool
    measure: bool
    dry_run: bool
    profile: bool
    opset: int | None
    min_ort: str | None
    force: bool
    pack: bool
    kv_cache: str | None
    fast_gelu: bool
    languages: Sequence[str]
    corpus: str | None
    keep_tokens: str | None
    keep_ids: bool
    min_coverage: float
    window: int
    global_tokens: int
    layers: Sequence[int]
    prune: str | None
    importance: str | None
    low_rank: bool
    sparse_storage: bool
    sparsity: str | None
    mask: str | None
    task: str | None
    allow_pickle: bool
    trust_remote_code: bool


def optimize(
    model: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Result:
    """Optimize a model file, a checkpoint's folder, or a hub id.

    Args:
        model: as on the command line.
        recipe: the name of a shipped recipe, or a YAML file; the options given here win.
        progress: called in this process, between steps, with a dictionary whose `stage` says in
            words what begins. What it raises ends the work, and nothing is written.
        options: see `Options`.

    Returns:
        The result: `.report` (JSON schema 1), `.path`, and `.save(path)`. A budget or a speed-up
        that is not met is no error: `driver.missed` tells, and the report.

    Raises:
        BurnishError: see the tree in `burnish.optimizer.errors`; its `exit_code` is that of the
            command line.
    """
    known = Options.__optional_keys__
    for name in options:
        if name not in known:
            hint = nearest(name, known) or "help(burnish.Options)"
            raise UsageError(f"{name} is no option of burnish.optimize", hint=hint)
    request = Request(os.fspath(model), **options)
    if recipe is not None:
        request = recipes.applied(recipes.named(recipe), request, options_for(options))
    return driver.optimize(request, progress)


class Inspection(dict[str, Any]):
    """What a model is, as data; notebooks show it as a page."""

    def _repr_html_(self) -> str | None:
        """The page for a notebook; None, for the plain form, where it cannot be drawn."""
        return report.fragment(self)


def inspect(model: str | os.PathLike[str], *, shape: Mapping[str, int] | None = None) -> Inspection:
    """What a model or a checkpoint is: architecture, weights, work, memory, what would help.

    Args:
        model: an .onnx file, an artifact, or a checkpoint's folder.
        shape: sizes of symbolic dimensions, as `--shape`.

    Returns:
        What `optimize inspect --json` writes; notebooks show it as a page.

    Raises:
        BurnishError: see the tree in `burnish.optimizer.errors`.
    """
    return Inspection(driver.inspect(Request(os.fspath(model), shape=dict(shape or {}))))


class Serving(TypedDict, total=False):
    """Keyword arguments of `load` for runtimes that take many feeds.

    Attributes:
        workers: `threads` of this process, which is the default, or `processes` of their own.
        batch: feeds of like length that wait are run as one, at most so many (1).
        capacity: feeds that wait at most; `submit` refuses more at once (1000).
        restarts: how often each worker process is started anew within a minute (20).
    """

    workers: str
    batch: int
    capacity: int
    restarts: int


def load(
    path: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    *,
    provider: str | Sequence[str] = "cpu",
    threads: int | Sequence[int] = 0,
    task: str | None = None,
    replicas: int = 1,
    ray: str | None = None,
    **serving: Unpack[Serving],
) -> Any:
    """An artifact, ready to run.

    Args:
        path: an .onnx file, or an artifact folder; or several files by name.
        provider: `cpu`, `cuda`, `tensorrt` or `openvino`; of stages, also one for each.
        threads: 0 for the runtime's own choice; of stages, also a number for each.
        task: what a file's model is for; of a folder, the manifest tells. Stages of a decoder
            generate text where that is named.
        replicas: how many times files or stages are opened, each with so many threads.
        ray: the address of a Ray cluster (`auto`, HOST:PORT, or `local` for one of its own) on
            whose nodes replicas and stages run; see docs/ray.md.
        serving: see `Serving`; not on Ray.

    Returns:
        Of a file, a `Runtime`, whose `run` has the signature of `InferenceSession.run`; of several
        replicas or files, or where `serving` is asked for, a `runtimes.workers.service.Service`,
        which also takes many feeds; of a folder, or where a task is named, what answers for the
        task: see `runtimes.tasks` and `runtimes.generate`; of the stages of a plan, a
        `runtimes.pipeline.Pipeline`; of a model split over ranks, a
        `runtimes.tensor_parallel.TensorParallel`. On Ray likewise, of a
        file or a folder of one graph as arrays.

    Raises:
        UsageError: where the provider is not known, or does not start here.
        UnsupportedModel: where it does not accept the model, or no answers are made for the task.
    """
    for key in serving:
        if key not in Serving.__optional_keys__:
            hint = nearest(key, Serving.__optional_keys__) or "help(burnish.load)"
            raise UsageError(f"{key} is no option of burnish.load", hint=hint)
    if ray is not None:
        return _on_ray(ray, path, provider, threads, replicas, plain=not (task or serving))
    name = named(task).name if task else None
    return loading.load(path, provider, threads, name, replicas, dict(serving))


def _on_ray(
    address: str, path: Any, provider: Any, threads: Any, replicas: int, *, plain: bool
) -> Any:
    """What `load` opens on a cluster: one file or folder, alike on all nodes."""
    alike = isinstance(provider, str) and isinstance(threads, int)
    if not plain or not alike or isinstance(path, Mapping):
        raise UsageError(
            "Ray runs one artifact, on arrays, alike on all nodes", hint="optimize serve for texts"
        )
    on_ray = ray_cluster.part("loading").load
    return on_ray(
        Path(path), address=address, provider=provider, threads=threads, replicas=replicas
    )
