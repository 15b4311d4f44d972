"""The input model's own answers, which all that comes of it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from burnish.driver.candidate import Reference
from burnish.driver.workbench import Workbench
from burnish.optimizer import feeds
from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.executor import Job
from burnish.optimizer.saving import save
from burnish.optimizer.widening import widened


def run_original(bench: Workbench) -> Reference:
    """Run the input model, ONNX Runtime's optimizations off, on feeds that it accepts.

    Raises:
        UnsupportedModel: where it accepts none of them.
    """
    tried, description = bench.candidates()
    folders = bench.executor.store(tried.feeds)
    first, again = bench.executor.folder(), bench.executor.folder()
    jobs = [
        Job(bench.loaded.path, [[folder] for folder in folders], first),
        Job(bench.loaded.path, [[folder] for folder in folders], again),
    ]
    reports = bench.executor.run(jobs)
    if reports[0]["error"]:
        raise UnsupportedModel(reports[0]["error"])
    failed = {int(index): reason for index, reason in reports[0]["failed"].items()}
    if len(failed) == len(folders):
        if not (bench.request.data or bench.found) and _find_sizes(bench):
            return run_original(bench)
        hint = "--shape NAME=SIZE, --data FILE, or --no-check --no-measure"
        raise UnsupportedModel(f"it runs on no input that was tried: {failed[0]}", hint=hint)
    if bench.request.data and failed:
        index = min(failed)
        raise UsageError(f"the model does not run on feed {index} of the data: {failed[index]}")
    usable = [index for index in range(len(folders)) if index not in failed]
    outputs = [bench.executor.read(first / str(index)) for index in usable]
    twice = [bench.executor.read(again / str(index)) for index in usable]
    if not _same(outputs, twice):
        bench.warnings.append("the input model gives different outputs for the same input")
    groups = [tried.groups[index] for index in usable]
    kept = [folders[index] for index in usable]
    outputs = _exact(bench, kept) or outputs
    return Reference(kept, outputs, description, bench.probes(), groups)


def _exact(bench: Workbench, folders: Sequence[Path]) -> list[dict[str, Array]]:
    """The answers with transforms computed in float64; none where there are no transforms."""
    wide = widened(bench.loaded.model)
    if wide is bench.loaded.model:
        return []
    path, results = (bench.executor.folder() / name for name in ("widened.onnx", "results"))
    results.mkdir()
    save(wide, path, external=False)
    (outcome,) = bench.executor.run([Job(path, [[folder] for folder in folders], results)])
    if outcome["error"] or outcome["failed"]:
        return []
    bench.warnings.append(
        "it is compared with its transforms computed in float64: ONNX Runtime's kernels are off by "
        "1.1e-7 times the length where that is no power of 2"
    )
    return [bench.executor.read(results / str(index)) for index in range(len(folders))]


def _find_sizes(bench: Workbench) -> bool:
    """Look for a size that the model takes: some are fixed by weights, and said nowhere."""
    folder = bench.executor.folder()
    for found in filter(None, (dict(bench.request.shape), *feeds.ladder(bench.slots))):
        bench.found = found
        feed = bench.executor.store(bench.made_up()[:1])[0]
        outcome = bench.executor.run([Job(bench.loaded.path, [[feed]], folder)])[0]
        if not outcome["failed"]:
            used = ", ".join(f"{name} {size}" for name, size in found.items())
            bench.warnings.append(f"it takes none of the usual sizes: {used} is used")
            return True
    bench.found = {}
    return False


def _same(first: Sequence[Mapping[str, Array]], second: Sequence[Mapping[str, Array]]) -> bool:
    return all(
        array.tobytes() == other[name].tobytes()
        for one, other in zip(first, second, strict=True)
        for name, array in one.items()
    )
