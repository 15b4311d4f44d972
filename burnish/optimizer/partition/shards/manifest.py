"""What a runtime has to know of ranks: the files of each, and where they meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from burnish.optimizer.partition.shards.layout import Parts
from burnish.optimizer.partition.shards.parts import Part
from burnish.optimizer.partition.shards.sharding import Sharding


def file_of(stage: int, rank: int, part: int) -> str:
    """The file of a part in its folder; all count from 0."""
    return f"stage-{stage + 1}-rank-{rank + 1}-part-{part + 1}.onnx"


def stage_row(
    sharding: Sharding, ranks: Sequence[Sequence[Part]], devices: Sequence[str], stage: int = 0
) -> dict[str, Any]:
    """A stage that several ranks compute, as a row of a manifest.

    Args:
        sharding: of the stage's model.
        ranks: the parts of each rank, as `Sharding.parts` gives them.
        devices: one for each rank.
        stage: which one, from 0.
    """
    graph, gathered = sharding.model.graph, sharding.gathers
    return {
        "inputs": [value.name for value in graph.inputs],
        "outputs": [value.name for value in graph.outputs],
        "split": {name: _port(layout.axes[0]) for name, layout in sharding.ports.items()},
        "ranks": [
            {
                "device": device,
                "parts": [
                    {
                        "file": file_of(stage, rank, index),
                        "inputs": list(part.inputs),
                        "outputs": list(part.outputs),
                        "reduce": [name for name in part.outputs if name in sharding.reduced],
                        "gather": {
                            name: _meeting(*gathered[name])
                            for name in part.outputs
                            if name in gathered
                        },
                    }
                    for index, part in enumerate(parts)
                ],
            }
            for rank, (device, parts) in enumerate(zip(devices, ranks, strict=True))
        ],
    }


def files(ranks: Sequence[Sequence[Part]], stage: int = 0) -> Iterator[tuple[str, ir.Model]]:
    """The parts of all ranks with the names of their files."""
    for rank, parts in enumerate(ranks):
        for index, part in enumerate(parts):
            yield file_of(stage, rank, index), part.model


def _port(item: tuple[int, Parts]) -> dict[str, Any]:
    axis, parts = item
    return {"axis": axis, "parts": parts.ranges()}


def _meeting(axis: int, parts: Parts) -> dict[str, Any]:
    return {"axis": axis, "sizes": [parts.count(rank) for rank in range(parts.ranks)]}
