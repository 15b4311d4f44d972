"""The job of `optimize inspect` on a checkpoint: what it is, and what `optimize` would make of it.

Read are the configuration and the headers of the weights; torch takes no part.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.driver.obstacles import Obstacle
from burnish.driver.prospects import FEW, PER_CHANNEL, Prospect
from burnish.driver.request import request_from
from burnish.driver.workbench import Emit
from burnish.optimizer.analysis.architecture import headline
from burnish.optimizer.analysis.costs.scaling import Growth
from burnish.optimizer.frontend import checkpoint, companions, declared, headers, hub
from burnish.optimizer.frontend.checkpoint import Checkpoint
from burnish.optimizer.frontend.headers import Stored
from burnish.optimizer.frontend.tasks import CACHED, PAIR, TASKS, named
from burnish.optimizer.report import SCHEMA

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")

EXPORTED = 4
"""Bytes of a weight once it is exported: models are computed in float32 first."""

GRAPHS = {PAIR: ("encoder.onnx", "decoder.onnx")}
"""The graphs that kinds of tasks become; `model.onnx` by itself otherwise."""

GROWN = ((1, 128), (8, 128), (1, 512), (8, 512), (1, 4096))
"""Batches and lengths that work is told at."""


def describe_checkpoint(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """What a checkpoint is, by its configuration and the headers of its weights."""
    request = request_from(argument)
    folder = Path(request.model)
    if not folder.is_dir():
        folder = hub.folder_of(request.model, allow_pickle=False, trust_code=False)
    found = checkpoint.read(folder, allow_pickle=True, trust_code=True)
    weights = [] if found.pickled else headers.stored(found.weights)
    task = named(request.task).name if request.task else declared.task_of(found.config)
    parts = {
        name: declared.architecture_of(config, weights, task)
        for name, config in declared.parts_of(found.config).items()
    }
    lines = [f"{name.removesuffix('_config')}: {headline(part)}" for name, part in parts.items()]
    first = next(iter(parts.values()))
    size = EXPORTED * sum(weight.elements for weight in weights)
    return {
        "schema": SCHEMA,
        "input": {
            "path": request.model,
            "bytes": found.bytes,
            "files": [path.name for path in found.weights],
        },
        "headline": "; ".join(lines).removeprefix(": "),
        "architecture": first,
        "weights": {
            "parameters": sum(weight.elements for weight in weights),
            "types": headers.types(weights),
            "by_layer": headers.by_layer(weights),
            "largest": _largest(weights),
        },
        "memory": {"weights_bytes": found.bytes},
        "scaling": _scaling(first, weights) if len(parts) == 1 else None,
        "checkpoint": {
            "model_type": found.config["model_type"],
            "architectures": found.config.get("architectures") or [],
            "task": task,
            **_becomes(found, request.model, task, size),
        },
        "options": [asdict(item) for item in _prospects(weights, size)],
        "obstacles": [asdict(item) for item in _obstacles(found, task)],
    }


def _largest(weights: Sequence[Stored]) -> list[dict[str, Any]]:
    rows = sorted(weights, key=lambda weight: (-weight.bytes, weight.name))[:8]
    return [
        {
            "name": weight.name, "shape": list(weight.shape), "dtype": weight.dtype,
            "bytes": weight.bytes, "part": "", "layer": weight.layer,
        }
        for weight in rows
    ]  # fmt: skip


def _becomes(found: Checkpoint, model: str, task: str, size: int) -> dict[str, Any]:
    """What `optimize` would write."""
    kind = TASKS[task].kind if task else ""
    source = Path(model)
    name = source.absolute().name if source.is_dir() else source.name
    beside = [name for name in companions.KEPT if (found.folder / name).is_file()]
    return {
        "output": f"{name}.opt",
        "graphs": list(GRAPHS.get(kind, ("model.onnx",))),
        "caches": kind in (CACHED, PAIR),
        "float32_bytes": size,
        "files": beside,
        "exporter_installed": all(
            importlib.util.find_spec(name) is not None for name in ("torch", "transformers")
        ),
    }


def _prospects(weights: Sequence[Stored], size: int) -> list[Prospect]:
    """Sizes by option; what products there are, only the exported graph tells."""
    matrices = [item for item in weights if item.is_matrix and item.dtype in FLOATS]
    elements = sum(weight.elements for weight in matrices)
    if not elements:
        return []
    rest = size - EXPORTED * elements
    channels = sum(weight.shape[0] for weight in matrices)
    what = f"{len(matrices)} matrices with {elements:,} parameters"
    return [
        Prospect("--int8", f"{what} in 8 bits", bytes=rest + elements + PER_CHANNEL * channels),
        Prospect("--int4", f"{what} in 4 bits, in blocks", bytes=rest + int(FEW * elements)),
        Prospect("--fp16", "float16 where it holds the values", bytes=size // 2),
    ]


def _scaling(facts: Mapping[str, Any], weights: Sequence[Stored]) -> dict[str, Any] | None:
    """Operations by batch and length, from matrices within layers and sizes of attentions."""
    inside = sum(item.elements for item in weights if item.is_matrix and item.layer is not None)
    if facts["kind"] == "encoder and decoder" or facts["patches"] or not inside:
        return None
    width = (facts["heads"] or [0])[0] * (facts["head_size"] or [0])[0]
    head = facts["vocabulary"] * (facts["hidden"] or [0])[0] if facts["kind"] == "decoder" else 0
    law = Growth(0.0, 2.0 * (inside + head), 4.0 * width * facts["layers"])
    rows = [
        {"batch": batch, "length": length, "flops": law.at(batch, length), "values_bytes": None}
        for batch, length in GROWN
        if not facts["limit"] or length <= facts["limit"]
    ]
    return {"flops": law.as_json(), "unknown": 0, "rows": rows, "cache_bytes_per_token": 0}


def _obstacles(found: Checkpoint, task: str) -> list[Obstacle]:
    rows = []
    if found.pickled:
        rows.append(
            Obstacle(
                "pickled weights",
                len(found.weights),
                "they may run any code as they are loaded, and tell nothing before",
                "a checkpoint in safetensors, or --allow-pickle",
            )
        )
    if found.own_code:
        rows.append(
            Obstacle(
                "code of its own",
                1,
                "the model needs code that comes with the checkpoint",
                "--trust-remote-code, if you have read it",
            )
        )
    if not task:
        known = found.config.get("architectures") or ["no class"]
        rows.append(
            Obstacle("task", 1, f"what {known[0]} is for is not known", "--task T on `optimize`")
        )
    if "quantization_config" in found.config:
        rows.append(
            Obstacle("quantized already", 1, "its weights are in few bits", "the original weights")
        )
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        rows.append(
            Obstacle(
                "exporter",
                1,
                "torch or transformers is not installed",
                "pip install 'burnish[export]'",
            )
        )
    return rows
