"""`optimize plan`, inside its sandboxed child: a model cut over devices, and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver import companions
from burnish.driver.original import run_original
from burnish.driver.request import request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import report
from burnish.optimizer.analysis import shapes
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.contract import Array, Feeds, relative_l2
from burnish.optimizer.errors import BurnishError, UnsupportedModel
from burnish.optimizer.executor import Job
from burnish.optimizer.partition import cluster, planner
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.planner import Plan, Stage
from burnish.optimizer.partition.stages import StageModel, file_of, manifest, stage_models
from burnish.optimizer.saving import save
from burnish.optimizer.signature import Signature

TOLERANCE = 1e-5
"""Relative L2 error of the stages together against the whole."""


def plan_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Plan stages for a model, write them where a folder is named, and check them.

    Args:
        argument: a request's fields; `cluster`, a file; `folder`, where stages are written, or
            empty for a plan only.
        emit: is told of progress.
    """
    request = request_from(argument)
    devices = cluster.read(Path(argument["cluster"]))
    with open_model(request, emit) as bench:
        bench.accept()
        model, sizes = bench.loaded.model, bench.sizes()
        shapes.annotate(model)
        emit({"stage": "planning"})
        chain = Chain(model, shapes.infer(model, sizes, bounded=True))
        if not len(chain):
            raise UnsupportedModel("it has no operators that could be spread over devices")
        plan = planner.plan(chain, devices)
        equal = planner.equal_split(chain, devices)
        facts = {
            "schema": report.SCHEMA,
            "input": report.file_facts(bench.loaded.files, model),
            "signature": Signature.of(model).as_json(),
            "shape": sizes,
            "stages": [_told(item, chain) for item in plan.stages],
            "devices": len(devices.devices),
            "bottleneck_seconds": plan.bottleneck,
            "latency_seconds": plan.latency,
            "bound_seconds": plan.bound,
            "gap": plan.gap,
            "equal_split": equal.bottleneck / plan.bottleneck if equal is not None else None,
            "loose": chain.loose,
            "error": None,
            "warnings": bench.warnings,
        }
        if argument["folder"]:
            facts["error"] = _written(bench, chain, plan, devices, Path(argument["folder"]), emit)
        return facts


def _told(stage: Stage, chain: Chain) -> dict[str, Any]:
    """A stage, as the report shows it."""
    end = stage.end - 1
    return {
        "device": stage.device.name,
        "first": chain.atoms[stage.start].name,
        "last": chain.atoms[end].name,
        "operators": stage.end - stage.start,
        "flops": sum(atom.flops for atom in chain.atoms[stage.start : stage.end]),
        "seconds": stage.seconds,
        "memory_bytes": stage.memory,
        "sends": list(chain.crossing[end]),
        "sends_bytes": stage.carried,
        "sends_seconds": stage.sends,
    }


def _written(
    bench: Workbench, chain: Chain, plan: Plan, devices: Cluster, folder: Path, emit: Emit
) -> float | None:
    """Write stages and manifest; the error of their answers, None where nothing was run.

    Raises:
        BurnishError: the stages together do not give what the model gives.
    """
    model = bench.loaded.model
    stages = stage_models(model, chain, plan)
    emit({"stage": "writing"})
    for index, stage in enumerate(stages):
        save(stage.model, folder / file_of(index), external=bench.loaded.external)
    companions.copy(bench.loaded.path, folder)
    content = manifest(stages, plan, model, __version__)
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if not bench.request.check:
        return None
    emit({"stage": "comparing with the input"})
    reference = run_original(bench)
    values = [dict(bench.executor.read(item)) for item in reference.folders]
    for index, stage in enumerate(stages):
        _run(bench, stage, folder / file_of(index), values)
    error = max(
        relative_l2(expected[name], found[name])
        for expected, found in zip(reference.outputs, values, strict=True)
        for name in expected
    )
    if not error <= TOLERANCE:
        raise BurnishError(f"internal error: the stages together are off by {error:.1e}")
    return error


def _run(
    bench: Workbench, stage: StageModel, path: Path, values: Sequence[dict[str, Array]]
) -> None:
    """Add what a stage gives for each feed to what is known."""
    feeds: list[Feeds] = [{name: item[name] for name in stage.inputs} for item in values]
    folders, results = bench.executor.store(feeds), bench.executor.folder()
    outcome = bench.executor.run([Job(path, [[item] for item in folders], results)])[0]
    if outcome["error"] or outcome["failed"]:
        reason = outcome["error"] or next(iter(outcome["failed"].values()))
        raise BurnishError(f"internal error: {path.name} does not run: {reason}")
    for index, item in enumerate(values):
        item.update(bench.executor.read(results / str(index)))
