"""The stages of a plan as files: written, run one after the other, held to the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver import companions
from burnish.driver.candidate import Reference
from burnish.driver.sending import Sender, Sent, within
from burnish.driver.workbench import Workbench
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.executor import Job
from burnish.optimizer.fidelity import Fidelity, fidelity
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.planner import Plan
from burnish.optimizer.partition.stages import (
    StageModel,
    file_of,
    manifest,
    stage_models,
    stage_rows,
)
from burnish.optimizer.partition.wire.ports import encoded
from burnish.optimizer.saving import save

TOLERANCE = 1e-5
"""Relative L2 error of the stages together against the whole."""

Cross = Callable[[str, Array], Array]
"""What is left of a value, by its name, that a stage has given."""


class Staged:
    """Stages as files in a folder.

    Args:
        stages: in order.
        folder: where they are written.
    """

    def __init__(self, bench: Workbench, stages: Sequence[StageModel], folder: Path) -> None:
        self._bench, self._stages, self._folder = bench, stages, folder
        bench.emit({"stage": "writing"})
        for index, stage in enumerate(stages):
            save(stage.model, folder / file_of(index), external=bench.loaded.external)

    def answers(self, reference: Reference, cross: Cross | None = None) -> list[dict[str, Array]]:
        """The model's outputs for each feed, by all stages one after the other."""
        bench, names = self._bench, list(reference.outputs[0])
        values = [dict(bench.executor.read(item)) for item in reference.folders]
        for index, stage in enumerate(self._stages):
            feeds: list[Feeds] = [{name: item[name] for name in stage.inputs} for item in values]
            folders, results = bench.executor.store(feeds), bench.executor.folder()
            path = self._folder / file_of(index)
            outcome = bench.executor.run([Job(path, [[item] for item in folders], results)])[0]
            if outcome["error"] or outcome["failed"]:
                reason = outcome["error"] or next(iter(outcome["failed"].values()))
                raise BurnishError(f"internal error: {path.name} does not run: {reason}")
            for number, item in enumerate(values):
                given = bench.executor.read(results / str(number))
                item |= {k: cross(k, v) for k, v in given.items()} if cross else given
        return [{name: item[name] for name in names} for item in values]

    def error(self, reference: Reference) -> float:
        """How far the answers are from those of the whole.

        Raises:
            BurnishError: further than rounding takes them.
        """
        error = reference.error(self.answers(reference))
        if not error <= TOLERANCE:
            raise BurnishError(f"internal error: the stages together are off by {error:.1e}")
        return error

    def kept(self, reference: Reference, cross: Cross | None = None) -> Fidelity:
        """What the answers keep, as the budget counts it."""
        bench = self._bench
        return fidelity(
            reference.outputs, self.answers(reference, cross), bench.distributions(),
            made_up=bench.request.data is None, groups=reference.groups,
        )  # fmt: skip


def described(
    stages: list[StageModel], plan: Plan, bench: Workbench, folder: Path, told: dict[str, Any]
) -> None:
    """Write the manifest beside the stages, and what belongs to the model."""
    companions.copy(bench.loaded.path, folder)
    content = manifest(bench.loaded.model, stage_rows(stages, plan), __version__) | told
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def bearable(
    bench: Workbench, plain: Staged, sender: Sender, plan: Plan, sent: Sent, reference: Reference
) -> Sent:
    """The encodings within the budget, found by the plain stages and what crosses between them."""

    def loss(kinds: Sequence[str]) -> float:
        return plain.kept(reference, sender.crossing(plan, kinds)).drop

    bench.emit({"stage": "choosing what is sent in fewer bits"})
    return within(sent, bench.request.max_drop, loss)


def sending(
    bench: Workbench, chain: Chain, plan: Plan, sender: Sender, sent: Sent, folder: Path
) -> tuple[Staged, list[StageModel], dict[str, Any]]:
    """The stages that send so, written; and what the manifest says of it."""
    plain = stage_models(bench.loaded.model, chain, plan)
    stages, parcels = encoded(plain, sender.kinds_of(plan, sent.kinds), sender.axes)
    told = {name: {"as": item.kind, "ports": list(item.names)} for name, item in parcels.items()}
    return Staged(bench, stages, folder), stages, {"wire": told} if told else {}
