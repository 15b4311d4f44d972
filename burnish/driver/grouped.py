"""Plans with stages that groups of devices compute: each device's parts, written and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver import companions
from burnish.driver.original import run_original
from burnish.driver.sharding import run_ranks
from burnish.driver.staged import TOLERANCE
from burnish.driver.workbench import Workbench
from burnish.optimizer.analysis import shapes
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.contract import Feeds, relative_l2
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.shards.manifest import files, manifest, stage_row
from burnish.optimizer.partition.shards.sharding import shard
from burnish.optimizer.partition.stages import StageModel, file_of, stage_models
from burnish.optimizer.saving import save, store_once


def write_groups(
    bench: Workbench, chain: Chain, plan: Plan, folder: Path, told: dict[str, Any]
) -> float | None:
    """Write a plan of which some stages are groups'; the error of all together, if it is checked.

    Args:
        bench: with the model.
        chain: of it.
        plan: of the chain.
        folder: where files and manifest go.
        told: what else the manifest says.
    """
    bench.emit({"stage": "writing"})
    rows = []
    for index, stage in enumerate(stage_models(bench.loaded.model, chain, plan)):
        names = [device.name for device in plan.stages[index].devices]
        rows.append(_written(bench, stage, names, folder, index))
    companions.copy(bench.loaded.path, folder)
    content = manifest(bench.loaded.model, rows, __version__) | told
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return _error(bench, rows, folder) if bench.request.check else None


def _written(
    bench: Workbench, stage: StageModel, names: Sequence[str], folder: Path, index: int
) -> dict[str, Any]:
    """Write a stage, in parts where it has several devices; its row of the manifest."""
    if len(names) > 1:
        shapes.annotate(stage.model)
        sharding = shard(stage.model, bench.sizes(), len(names))
        if sharding.choice.goals:
            parts = [sharding.parts(rank) for rank in range(sharding.ranks)]
            for name, model in files(parts, index):
                save(model, folder / name, external=bench.loaded.external)
            row = stage_row(sharding, parts, names, index)
            for rank, item in enumerate(row["ranks"]):
                paths = [folder / part["file"] for part in item["parts"]]
                store_once(paths, f"stage-{index + 1}-rank-{rank + 1}")
            return row
    save(stage.model, folder / file_of(index), external=bench.loaded.external)
    ports = {"inputs": list(stage.inputs), "outputs": list(stage.outputs)}
    return {"file": file_of(index), "device": names[0], **ports}


def _error(bench: Workbench, rows: Sequence[dict[str, Any]], folder: Path) -> float:
    """How far all stages together are from the whole.

    Raises:
        BurnishError: further than rounding takes them.
    """
    bench.emit({"stage": "comparing with the input"})
    reference = run_original(bench)
    values = [dict(bench.executor.read(feed)) for feed in reference.folders]
    for row in rows:
        alone = {"parts": [{**row, "reduce": [], "gather": {}}]}
        ranked = row if "ranks" in row else {**row, "ranks": [alone], "split": {}}
        feeds: list[Feeds] = [{name: item[name] for name in row["inputs"]} for item in values]
        given = run_ranks(bench, ranked, folder, bench.executor.store(feeds))
        for item, more in zip(values, given, strict=True):
            item |= more
    error = max(
        relative_l2(expected[name], found[name])
        for expected, found in zip(reference.outputs, values, strict=True)
        for name in expected
    )
    if not error <= TOLERANCE:
        raise BurnishError(f"internal error: the stages together are off by {error:.1e}")
    return error
