"""Models split over ranks, written and opened: what tests of rules and runtimes compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from burnish.optimizer.analysis import shapes
from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.partition.shards import Sharding, shard
from burnish.optimizer.partition.shards.manifest import files, stage_row
from burnish.optimizer.partition.stages import manifest
from burnish.optimizer.saving import save
from burnish.runtimes.tensor_parallel import open_shards

SIZES = {"batch": 8, "sequence": 128, "past": 32, "total": 160}


def split(message: onnx.ModelProto, ranks: int, sizes: Mapping[str, int] | None = None) -> Sharding:
    """A model split at sizes where splitting is worth it."""
    model = ir.from_proto(message)
    shapes.annotate(model)
    return shard(model, sizes or SIZES, ranks)


def written(sharding: Sharding, folder: Path) -> Path:
    """The folder with the models of ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [sharding.parts(rank) for rank in range(sharding.ranks)]
    for name, model in files(parts):
        save(model, folder / name, external=False)
    row = stage_row(sharding, parts, [f"rank {index}" for index in range(sharding.ranks)])
    (folder / MANIFEST).write_text(json.dumps(manifest(sharding.model, [row], "test")))
    return folder


def error(
    message: onnx.ModelProto, sharding: Sharding, folder: Path, feed: Mapping[str, np.ndarray]
) -> float:
    """Relative L2 error of the ranks together against the whole, the largest of all outputs."""
    whole = onnxruntime.InferenceSession(message.SerializeToString()).run(None, dict(feed))
    with open_shards(written(sharding, folder), workers="threads") as runtime:
        found = runtime.run(None, feed)
    assert [item.shape for item in found] == [item.shape for item in whole]
    return max(
        float(np.linalg.norm(mine - theirs) / max(float(np.linalg.norm(theirs)), 1e-30))
        for mine, theirs in zip(found, whole, strict=True)
    )
