"""`optimize plan --shards`, inside its sandboxed child: a model split over ranks, and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish import __version__
from burnish.driver.original import run_original
from burnish.driver.request import request_from
from burnish.driver.staged import TOLERANCE
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import report
from burnish.optimizer.analysis import shapes
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.contract import Array
from burnish.optimizer.errors import BurnishError, UnsupportedModel
from burnish.optimizer.executor import Job
from burnish.optimizer.partition.shards.manifest import files, stage_row
from burnish.optimizer.partition.shards.sharding import Sharding, shard
from burnish.optimizer.partition.stages import manifest
from burnish.optimizer.saving import save, store_once
from burnish.optimizer.signature import Signature

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

HALF_TOLERANCE = 5e-3
"""The same as `TOLERANCE` where parts of sums are rounded to half types before they are summed."""


def shard_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Split a model over ranks, write their models where a folder is named, and check them.

    Args:
        argument: a request's fields; `shards`, how many ranks; `folder`, where they are written,
            or empty for what is said of them only.
        emit: is told of progress.

    Raises:
        UnsupportedModel: nothing of the model can be split, or nothing is worth it.
    """
    request, ranks = request_from(argument), int(argument["shards"])
    with open_model(request, emit) as bench:
        bench.accept()
        model, sizes = bench.loaded.model, bench.sizes()
        shapes.annotate(model)
        emit({"stage": "splitting"})
        sharding = shard(model, sizes, ranks)
        if not sharding.choice.goals:
            told = next(iter(sharding.choice.whole.values()), "it has no weights of any size")
            raise UnsupportedModel(
                f"nothing of it is worth splitting over {ranks} ranks: {told}", hint="--shape"
            )
        facts = {
            "schema": report.SCHEMA,
            "input": report.file_facts(bench.loaded.files, model),
            "signature": Signature.of(model).as_json(),
            "shape": sizes,
            **_told(sharding),
            "error": None,
            "warnings": bench.warnings,
        }
        if argument["folder"]:
            facts["error"] = _written(bench, sharding, Path(argument["folder"]), emit)
        return facts


def _told(sharding: Sharding) -> dict[str, Any]:
    """What is split, as the report shows it."""
    flow = sharding.choice.flow
    shares = {goal.node: goal.share for goal in sharding.choice.goals}
    work = sum(sharding.flops.values())
    mine = sum(
        flops * (shares.get(node, flow.share(node)) if node in flow.wants else 1.0)
        for node, flops in sharding.flops.items()
    )
    initializers = sharding.model.graph.initializers
    sizes = {
        name: value.const_value.nbytes
        for name, value in initializers.items()
        if value.const_value is not None
    }
    stays = sum(sizes[name] for name in sharding.choice.whole)
    return {
        "ranks": sharding.ranks,
        "whole_bytes": stays,
        "weights_bytes": sharding.whole,
        "rank_weights_bytes": sharding.weights,
        "flops": work,
        "rank_flops": mine,
        "reduced": sharding.reduced,
        "gathered": sharding.gathered,
        "split_ports": sorted(sharding.ports),
        "refused": dict(sharding.choice.refused),
        "whole": [
            {"weight": name, "bytes": sizes[name], "reason": reason}
            for name, reason in sharding.choice.whole.items()
        ],
    }


def _written(bench: Workbench, sharding: Sharding, folder: Path, emit: Emit) -> float | None:
    """Write the parts of all ranks; the error of their answers, None where nothing was run.

    Raises:
        BurnishError: the ranks together do not give what the model gives.
    """
    emit({"stage": "writing"})
    parts = [sharding.parts(rank) for rank in range(sharding.ranks)]
    for name, model in files(parts):
        save(model, folder / name, external=bench.loaded.external)
    row = stage_row(sharding, parts, [f"rank {rank + 1}" for rank in range(sharding.ranks)])
    for rank, told in enumerate(row["ranks"]):
        paths = [folder / part["file"] for part in told["parts"]]
        store_once(paths, f"rank-{rank + 1}")
    content = manifest(bench.loaded.model, [row], __version__)
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if not bench.request.check:
        return None
    emit({"stage": "comparing with the input"})
    reference = run_original(bench)
    error = reference.error(run_ranks(bench, row, folder, reference.folders))
    halves = any(value.dtype in HALVES for value in sharding.sums.reduced)
    if not error <= (HALF_TOLERANCE if halves else TOLERANCE):
        raise BurnishError(f"internal error: the ranks together are off by {error:.1e}")
    return error


def run_ranks(
    bench: Workbench, row: Mapping[str, Any], folder: Path, feeds: Sequence[Path]
) -> list[dict[str, Array]]:
    """What ranks give together, for each feed: all parts one after the other.

    Args:
        bench: with an executor.
        row: of the manifest; see `stage_row`.
        folder: of the parts.
        feeds: of the stage.
    """
    ranks, split = row["ranks"], row["split"]
    values = [
        [_ports(bench.executor.read(feed), split, rank) for rank in range(len(ranks))]
        for feed in feeds
    ]
    for index in range(len(ranks[0]["parts"])):
        for rank, told in enumerate(ranks):
            part = told["parts"][index]
            _run(bench, part, folder / part["file"], [item[rank] for item in values])
        for item in values:
            _meet(item, [told["parts"][index] for told in ranks])
    return [_together(item, row) for item in values]


def _ports(feed: Mapping[str, Array], split: Mapping[str, Any], rank: int) -> dict[str, Array]:
    """What a rank is given of a feed."""
    found = dict(feed)
    for name in found.keys() & split.keys():
        start, end = split[name]["parts"][rank]
        found[name] = found[name].take(np.arange(start, end), split[name]["axis"])
    return found


def _meet(values: Sequence[dict[str, Array]], parts: Sequence[Mapping[str, Any]]) -> None:
    """Add up, and put beside each other, what ranks gave."""
    for name in parts[0]["reduce"]:
        total = values[0][name]
        for item in values[1:]:
            total = total + item[name]
        for item in values:
            item[name] = total
    for name, told in parts[0]["gather"].items():
        whole = np.concatenate([item[name] for item in values], told["axis"])
        for item in values:
            item[name] = whole


def _together(values: Sequence[Mapping[str, Array]], row: Mapping[str, Any]) -> dict[str, Array]:
    """The outputs of the whole: pieces that several ranks have are alike."""
    found = {}
    for name in row["outputs"]:
        told = row["split"].get(name)
        if told is None:
            found[name] = values[0][name]
            continue
        pieces, done = [], 0
        for item, (start, end) in zip(values, told["parts"], strict=True):
            if end > done:
                skipped = np.arange(max(done, start) - start, end - start)
                pieces.append(item[name].take(skipped, told["axis"]))
                done = end
        found[name] = np.concatenate(pieces, told["axis"])
    return found


def _run(
    bench: Workbench, part: Mapping[str, Any], path: Path, values: Sequence[dict[str, Array]]
) -> None:
    """Add what a part gives for each feed to what its rank knows."""
    feeds = [{name: item[name] for name in part["inputs"]} for item in values]
    folders, results = bench.executor.store(feeds), bench.executor.folder()
    outcome = bench.executor.run([Job(path, [[item] for item in folders], results)])[0]
    if outcome["error"] or outcome["failed"]:
        reason = outcome["error"] or next(iter(outcome["failed"].values()))
        raise UnsupportedModel(
            f"its part {path.name} does not run: {reason}",
            hint="--shape with sizes at which the model runs",
        )
    for index, item in enumerate(values):
        item.update(bench.executor.read(results / str(index)))
