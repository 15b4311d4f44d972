"""What each pass left behind, as data: the sizes of the model after it, its errors by layer."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.account import recovered_model
from burnish.optimizer.analysis.costs.work import layers
from burnish.optimizer.model import count_nodes, weight_bytes
from burnish.optimizer.pipeline import Compiled

HEAD = "head"
"""What the report calls what is behind the last layer."""


def passes(compiled: Compiled) -> list[dict[str, Any]]:
    """The steps, each with the nodes and the bytes of weights of the model after it."""
    start = compiled.snapshots[0] if compiled.snapshots else compiled.model
    sizes = {"nodes": count_nodes(start), "bytes": weight_bytes(start)}
    told = []
    for index, step in enumerate(compiled.steps):
        if step.status == "kept":
            model = compiled.after(index).model
            sizes = {"nodes": count_nodes(model), "bytes": weight_bytes(model)}
        told.append(step.as_json() | sizes)
    return told


def layer_names(model: ir.Model) -> dict[str, str]:
    """The layer of every value that is computed: its number from 1, 0 before those, or the head."""
    return {
        value.name: HEAD if layer is None else str(layer)
        for node, layer in layers(model).items()
        for value in node.outputs
        if value.name
    }


def errors_by_layer(compiled: Compiled) -> list[dict[str, Any]]:
    """The largest error that a pass made in each layer, and which pass; in order of layers.

    Each is the relative L2 error of a region that was given the exact values before it, so that
    errors do not add up over layers here. Empty where nothing was checked.
    """
    kept = [step for step in compiled.kept if step.errors]
    if not kept:
        return []
    start = compiled.snapshots[0]
    places: dict[str, str] = {}
    for model in (compiled.model, recovered_model(compiled), start):
        places |= layer_names(model)
    worst: dict[str, tuple[float, str]] = {}
    for step in kept:
        for name, error in step.errors.items():
            layer = places.get(name)
            if layer is not None and error >= worst.get(layer, (-1.0, ""))[0]:
                worst[layer] = (error, step.transform.name)
    order = sorted(worst, key=lambda name: (name == HEAD, int(name) if name != HEAD else 0))
    return [{"layer": name, "error": worst[name][0], "pass": worst[name][1]} for name in order]
