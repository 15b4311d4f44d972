"""Jobs that run models and write none, inside their sandboxed child: compare, bench, run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.driver.original import run_original
from burnish.driver.request import request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import report, roles, tuner
from burnish.optimizer.analysis import shapes
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.emulation import emulated
from burnish.optimizer.errors import UnsupportedModel, UsageError, about
from burnish.optimizer.executor import Job
from burnish.optimizer.fidelity import fidelity
from burnish.optimizer.measure import Entrant
from burnish.optimizer.model import Loaded, load
from burnish.optimizer.saving import save
from burnish.optimizer.signature import Signature
from burnish.runtimes.providers import REFERENCE

BENCH_SECONDS = 15.0
"""Time given to the comparison of each model with the first."""


def compare_models(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run both models on the same feeds (stock sessions) and compare their outputs."""
    request = request_from(argument)
    with about(Path(argument["other"])):
        other = load(Path(argument["other"]))
    with open_model(replace(request, provider=REFERENCE), emit) as bench:
        mine, theirs = Signature.of(bench.loaded.model), Signature.of(other.model)
        difference = replace(mine, metadata=()).difference(replace(theirs, metadata=()))
        bench.accept()
        reference = run_original(bench)
        results = bench.executor.folder()
        feeds = [[folder] for folder in reference.folders]
        provider = request.provider
        path = _on_this_host(bench, other) if provider == REFERENCE else other.path
        job = Job(path, feeds, results, optimize=True, provider=provider)
        outcome = bench.executor.run([job])[0]
        if outcome["error"] or outcome["failed"]:
            reason = outcome["error"] or next(iter(outcome["failed"].values()))
            with about(other.path):
                raise UnsupportedModel(reason)
        outputs = [bench.executor.read(results / str(index)) for index in range(len(feeds))]
        common = [name for name in reference.outputs[0] if name in outputs[0]]
        if not common:
            raise UsageError("the models have no output in common")
        found = fidelity(
            [{name: item[name] for name in common} for item in reference.outputs],
            outputs,
            bench.distributions(),
            made_up=request.data is None,
            groups=reference.groups,
        )
        return {
            "schema": report.SCHEMA,
            "input": report.file_facts(bench.loaded.files, bench.loaded.model, bench.loaded.sha256),
            "output": report.file_facts(other.files, other.model, other.sha256),
            "signature": {
                "difference": difference,
                "missing": [port.name for port in mine.outputs if port.name not in common],
            },
            "fidelity": report.fidelity_facts(found, reference.description, len(feeds)),
            "warnings": bench.warnings,
        }


def _on_this_host(bench: Workbench, other: Loaded) -> Path:
    """The model's file, or where it computes in bfloat16 that of one that processors run."""
    shapes.annotate(other.model)
    like = emulated(other.model)
    if like is other.model:
        return other.path
    bench.warnings.append(
        f"{other.path.name} computes in bfloat16, which is emulated: values are rounded, what "
        "kernels round inside is not seen"
    )
    path = bench.executor.folder() / "emulated.onnx"
    save(like, path, external=False)
    return path


def bench_models(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Time models in stock sessions, each against the first, in alternation."""
    request = request_from(argument)
    with open_model(request, emit) as bench:
        bench.settle()
        sizes, shape = bench.sizes(), bench.timing_feed()
        paths = [bench.loaded.path, *(Path(item) for item in argument["others"])]
        entrants: list[Entrant] = []
        name, _ = tuner.processor()
        rows = []
        with bench.contest() as contest:
            for index, path in enumerate(paths):
                with about(path):
                    feed = bench.executor.store([fitted(shape, load(path).model)])[0]
                    entrants.append(Entrant(path.absolute(), feed))
                    contest.admit(str(index), entrants[index])
            for index, path in list(enumerate(paths))[1:] or [(0, paths[0])]:
                emit({"stage": f"timing {path.name}"})
                pair = {"0": entrants[0], str(index) if index else "again": entrants[index]}
                timing = list(contest.compare(pair, BENCH_SECONDS).values())[-1]
                rows.append({"path": str(path), **report.latency_facts(timing, sizes)})
        return {
            "schema": report.SCHEMA,
            "input": {"path": str(paths[0])},
            "target": {
                "provider": request.provider,
                "device": name,
                "threads": request.threads_used,
            },
            "inputs": {name: list(array.shape) for name, array in shape.items()},
            "latency": rows,
        }


def fitted(feed: Feeds, model: ir.Model) -> Feeds:
    """The feed in the types of the model's inputs, with ids that it knows.

    The type of a cache may be another one, and the vocabulary a smaller one.
    """
    found = dict(feed)
    for value in model.graph.inputs:
        array = feed.get(value.name or "")
        if array is None:
            continue
        if array.dtype.kind in "iu" and (bound := roles.table_bound(value)):
            array = array % bound
        found[value.name or ""] = array.astype(value.dtype.numpy()) if value.dtype else array
    return found


def run_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run a model on the user's data, or on one made-up feed; facts about each output."""
    request = request_from(argument)
    with open_model(request, emit) as bench:
        data, description = bench.candidates()
        feeds = data.feeds
        if not request.data:
            bench.settle()
            feeds = [bench.timing_feed()]
        folders = bench.executor.store(feeds)
        results = bench.executor.folder()
        job = Job(bench.loaded.path, [[folder] for folder in folders], results, optimize=True)
        outcome = bench.executor.run([job])[0]
        if outcome["error"] or outcome["failed"]:
            raise UnsupportedModel(outcome["error"] or next(iter(outcome["failed"].values())))
        runs = []
        for index, feed in enumerate(feeds):
            outputs = bench.executor.read(results / str(index))
            runs.append(row_of(feed, outputs))
            if request.output:
                np.savez(numbered(Path(request.output), index, len(feeds)), **outputs)  # type: ignore[arg-type]
        return {"schema": report.SCHEMA, "feeds": description, "runs": runs}


def numbered(path: Path, index: int, count: int) -> Path:
    """The file of one feed of several."""
    return path if count == 1 else path.with_name(f"{path.stem}.{index}{path.suffix}")


def row_of(feed: Feeds, outputs: Feeds) -> dict[str, Any]:
    """What a run was given and gave, as the report says it."""
    return {
        "inputs": {name: facts_of(array) for name, array in feed.items()},
        "outputs": {name: facts_of(array) for name, array in outputs.items()},
    }


def facts_of(array: Array) -> dict[str, Any]:
    """Type and shape of an array, and of numbers their range."""
    facts: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size and array.dtype.kind in "fiub":
        numbers = array.astype(np.float64)
        facts |= {
            "min": float(numbers.min()),
            "mean": float(numbers.mean()),
            "max": float(numbers.max()),
            "finite": bool(np.isfinite(numbers).all()),
        }
    return facts
