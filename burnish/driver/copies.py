"""Replicas that are not cut as the first one is: plans of their own, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.driver.grouped import write_groups
from burnish.driver.original import run_original
from burnish.driver.staged import Staged, described
from burnish.driver.workbench import Workbench
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.combinations import Combination
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.stages import stage_models


def write_copies(
    bench: Workbench, chain: Chain, combination: Combination, folder: Path
) -> dict[str, Any]:
    """What the manifest says of replicas; each way to cut them is written once.

    A replica that is cut as an earlier one has the same files, on other devices. The first way lies
    in the folder itself, each other one in a folder within it, with a manifest of its own.
    """
    if len(combination.replicas) < 2:
        return {}
    told: list[dict[str, Any]] = []
    written = {_cuts(combination.replicas[0]): ""}
    for number, plan in enumerate(combination.replicas, 1):
        cuts = _cuts(plan)
        if cuts not in written:
            written[cuts] = f"replica-{number}"
            _write(bench, chain, plan, folder / written[cuts])
        devices = [[device.name for device in stage.devices] for stage in plan.stages]
        told.append({"devices": devices} | ({"folder": written[cuts]} if written[cuts] else {}))
    return {"replicas": told}


def _cuts(plan: Plan) -> tuple[tuple[int, int], ...]:
    """What the files of a plan depend on: ends and sizes of groups."""
    return tuple((stage.end, len(stage.devices)) for stage in plan.stages)


def _write(bench: Workbench, chain: Chain, plan: Plan, folder: Path) -> None:
    folder.mkdir()
    if any(stage.others for stage in plan.stages):
        write_groups(bench, chain, plan, folder, {})
        return
    stages = stage_models(bench.loaded.model, chain, plan)
    staged = Staged(bench, stages, folder)
    if bench.request.check:
        staged.error(run_original(bench))
    described(stages, plan, bench, folder, {})
