"""`optimize run` on the stages of a plan, inside its sandboxed child."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.driver.inspection import numbered, row_of
from burnish.driver.request import Request, request_from
from burnish.driver.workbench import Emit
from burnish.optimizer import report, signature, user_data
from burnish.optimizer.contract import Feeds
from burnish.optimizer.roles import Role, Slot
from burnish.runtimes.pipeline import Pipeline
from burnish.runtimes.shards.plan import is_sharded
from burnish.runtimes.tensor_parallel import TensorParallel
from burnish.runtimes.workers.made_up import LENGTH, dtype_of, feed_of
from burnish.runtimes.workers.opening import Opening
from burnish.runtimes.workers.requests import Port


def run_stages(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run stages on the user's data, or on one made-up feed; facts about each output."""
    request = request_from(argument)
    folder = Path(request.model)
    with _opened(folder, request) as stages:
        feeds, description = _feeds(request, stages.get_inputs())
        names = [port.name for port in stages.get_outputs()]
        runs = []
        for index, (feed, found) in enumerate(zip(feeds, stages.map(feeds), strict=True)):
            outputs = dict(zip(names, found, strict=True))
            runs.append(row_of(feed, outputs))
            if request.output:
                np.savez(numbered(Path(request.output), index, len(feeds)), **outputs)  # type: ignore[arg-type]
    return {"schema": report.SCHEMA, "feeds": description, "runs": runs}


def _opened(folder: Path, request: Request) -> Pipeline | TensorParallel:
    """Stages of single files, or of ranks, which are threads here: nothing else runs beside."""
    if is_sharded(folder):
        return TensorParallel(folder, Opening(request.provider, request.threads))
    return Pipeline(folder, provider=request.provider, threads=request.threads)


def _feeds(request: Request, ports: Sequence[Port]) -> tuple[Sequence[Feeds], str]:
    """Feeds, and what they are called."""
    if not request.data:
        sizes = request.shape
        rows, length = sizes.get("batch", 1), sizes.get("sequence", LENGTH)
        return [feed_of(ports, rows=rows, length=length, seed=request.seed)], "on made-up inputs"
    data = Path(request.data)
    tokenizer = Path(request.tokenizer) if request.tokenizer else Path(request.model)
    return user_data.read(data, list(map(_slot, ports)), tokenizer).feeds, f"on {data.name}"


def _slot(port: Port) -> Slot:
    """What an input is for, by its name alone: the graph is in pieces."""
    kind = ir.DataType.from_numpy(dtype_of(port)).name
    shape = None if port.shape is None else tuple(port.shape)
    role = Role.NUMBERS
    if kind.startswith(("INT", "UINT")) and len(shape or ()) == 2:
        role = Role.MASK if "mask" in port.name.lower() else Role.IDS
    bound = 1 if "type" in port.name.lower() else 2
    return Slot(signature.Port(port.name, kind, shape), role, bound)
