"""Plans with stages that groups of devices compute: each device's parts, written and checked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
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
from burnish.optimizer.contract import Array, Feeds, relative_l2
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.shards.manifest import files, stage_row
from burnish.optimizer.partition.shards.sharding import shard
from burnish.optimizer.partition.stages import StageModel, file_of, manifest, stage_models
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
    rows, held = [], _Held(bench) if bench.request.check else None
    for index, stage in enumerate(stage_models(bench.loaded.model, chain, plan)):
        names = [device.name for device in plan.stages[index].devices]
        row = _written(bench, stage, names, folder, index)
        if held is not None and not held.follows(stage, row, folder):
            for file in folder.glob(f"stage-{index + 1}-*"):
                file.unlink()
            row = _whole(bench, stage, names[0], folder, index)
            bench.warnings.append(f"stage {index + 1} is written whole: its parts differ from it")
        rows.append(row)
    companions.copy(bench.loaded.path, folder)
    content = manifest(bench.loaded.model, rows, __version__) | told
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return held.error() if held is not None else None


def _written(
    bench: Workbench, stage: StageModel, names: Sequence[str], folder: Path, index: int
) -> dict[str, Any]:
    """Write a stage, in parts where it has several devices; its row of the manifest."""
    if len(names) < 2:
        return _whole(bench, stage, names[0], folder, index)
    shapes.annotate(stage.model)
    sharding = shard(stage.model, bench.sizes(), len(names))
    if not sharding.choice.goals:
        return _whole(bench, stage, names[0], folder, index)
    parts = [sharding.parts(rank) for rank in range(sharding.ranks)]
    for name, model in files(parts, index):
        save(model, folder / name, external=bench.loaded.external)
    row = stage_row(sharding, parts, names, index)
    for rank, item in enumerate(row["ranks"]):
        paths = [folder / part["file"] for part in item["parts"]]
        store_once(paths, f"stage-{index + 1}-rank-{rank + 1}")
    return row


def _whole(
    bench: Workbench, stage: StageModel, device: str, folder: Path, index: int
) -> dict[str, Any]:
    """Write a stage as it is; its row of the manifest."""
    save(stage.model, folder / file_of(index), external=bench.loaded.external)
    ports = {"inputs": list(stage.inputs), "outputs": list(stage.outputs)}
    return {"file": file_of(index), "device": device, **ports}


class _Held:
    """Holds stage after stage to what it gives as it is, and all of them to the model."""

    def __init__(self, bench: Workbench) -> None:
        bench.emit({"stage": "comparing with the input"})
        self._bench, self._reference = bench, run_original(bench)
        self._values = [dict(bench.executor.read(feed)) for feed in self._reference.folders]

    def follows(self, stage: StageModel, row: Mapping[str, Any], folder: Path) -> bool:
        """Whether the parts of a stage run, and give what it gives; a stage in one file does."""
        scratch = self._bench.executor.folder()
        plain = _whole(self._bench, stage, "", scratch, 0)
        expected = given = self._given(plain, scratch)
        if "ranks" in row:
            with contextlib.suppress(BurnishError):
                given = self._given(row, folder)
            if given is expected or not _error(expected, given) <= TOLERANCE:
                self._know(expected)
                return False
        self._know(given)
        return True

    def error(self) -> float:
        """How far all stages together are from the whole.

        Raises:
            BurnishError: further than rounding takes them.
        """
        error = _error(self._reference.outputs, self._values)
        if not error <= TOLERANCE:
            raise BurnishError(f"internal error: the stages together are off by {error:.1e}")
        return error

    def _given(self, row: Mapping[str, Any], folder: Path) -> list[dict[str, Array]]:
        alone = {"parts": [{**row, "reduce": [], "gather": {}}]}
        ranked = row if "ranks" in row else {**row, "ranks": [alone], "split": {}}
        feeds: list[Feeds] = [{name: v[name] for name in row["inputs"]} for v in self._values]
        return run_ranks(self._bench, ranked, folder, self._bench.executor.store(feeds))

    def _know(self, given: Sequence[dict[str, Array]]) -> None:
        for item, more in zip(self._values, given, strict=True):
            item |= more


def _error(expected: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> float:
    """The largest relative L2 error of all outputs and feeds."""
    return max(
        relative_l2(one[name], two[name])
        for one, two in zip(expected, found, strict=True)
        for name in one
    )
