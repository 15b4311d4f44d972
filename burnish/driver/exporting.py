"""Exporting a checkpoint, inside its sandboxed child."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.optimizer.contract import Array
from burnish.optimizer.frontend import checkpoint, hub
from burnish.runtimes.providers import PROVIDERS, REFERENCE

Emit = Callable[[dict[str, Any]], None]


def export_checkpoint(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Export a folder or a hub id into `NAME/NAME.onnx` files; what was done.

    Args:
        argument: `checkpoint`, `task`, `allow_pickle`, `trust_code`, and the `folder` to write to.
        emit: told of each step.
    """
    trust, pickles = argument["trust_code"], argument["allow_pickle"]
    start = time.monotonic()
    source = Path(argument["checkpoint"])
    if not source.is_dir():
        emit({"stage": "looking for it on the hub"})
        source = hub.folder_of(str(source), allow_pickle=pickles, trust_code=trust)
    found = checkpoint.read(source, allow_pickle=pickles, trust_code=trust)
    try:
        from burnish.optimizer.frontend import companions, export, models
    except ImportError:
        raise hub.lacks_extra() from None
    folder, warnings = Path(argument["folder"]), list[str]()
    facts = export.exported(
        found, models.task_of(found.config, argument["task"]), folder, trust_code=trust,
        run=_run, say=lambda stage: emit({"stage": stage}),
    )  # fmt: skip
    facts |= companions.copied(found, folder, warnings)
    return facts | {
        "bytes": found.bytes,
        "model_type": found.config["model_type"],
        "seconds": time.monotonic() - start,
        "warnings": warnings,
    }


def _run(path: Path, feeds: list[dict[str, Array]]) -> list[list[Array]]:
    session = PROVIDERS[REFERENCE].open(path, provider=REFERENCE, optimize=False)
    try:
        # An input that the exporter found no use for is no input of the file.
        names = {port.name for port in session.get_inputs()}
        return [
            session.run(None, {name: feed[name] for name in feed if name in names})
            for feed in feeds
        ]
    finally:
        session.close()
