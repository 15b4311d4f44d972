"""Plans over devices, in the caller's process: the work itself is done in a child."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.driver.request import Request
from burnish.optimizer import artifact
from burnish.optimizer.errors import UsageError

Work = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Does a job, by its name in `driver`, in a child."""


def where(cluster: str | None, devices: str | None) -> dict[str, Any]:
    """The devices of a plan as they cross the process boundary.

    Args:
        cluster: a file; see `optimizer.partition.cluster`.
        devices: of this machine, which are measured; see `devices.parsed`.

    Raises:
        UsageError: there are both, or neither.
    """
    if (cluster is None) == (devices is None):
        hint = "--devices cpu:1,cpu:1"
        raise UsageError("a plan needs one of --cluster, --devices and --shards", hint=hint)
    return {"cluster": cluster, "devices": devices}


def ranks(count: int) -> int:
    """How many ranks a model is split over, where no devices are told.

    Raises:
        UsageError: too few.
    """
    if count < 2:
        raise UsageError(f"--shards {count} splits nothing", hint="--shards 2")
    return count


def planned(
    request: Request, work: Work, given: dict[str, Any], output: str | None
) -> dict[str, Any]:
    """Cut a model over devices; the plan as data.

    Args:
        request: names the model, its shapes and limits.
        work: does the job.
        given: the devices (see `where`), and how activations are sent under `wire`; or how many
            ranks under `shards`.
        output: a folder for the stages' models; None for the plan alone.
    """
    argument, job = asdict(request) | given | {"folder": ""}, "planning:plan_model"
    if "shards" in given:
        job = "sharding:shard_model"
    if output is None:
        return work(job, argument)
    target = Path(output)
    artifact.admit_folder(target, request.model)
    with artifact.staging(target) as folder:
        staged = folder / target.name
        staged.mkdir()
        facts = work(job, argument | {"folder": str(staged)})
        artifact.publish_folder(staged, target)
    return facts | {"output": str(target)}
