"""What an integer of a cache stands for, by what the cache held on the feeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.heads import HEADS_INSIDE
from burnish.optimizer.contract import Context
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.kv_cache.places import Place

LARGEST = 127

MARGIN = 1.25
"""How much larger than on the feeds a channel may become before it is cut.

A Llama of 5 million parameters that decodes held-out sentences diverges from float32 by 4e-5 at
1.0, 1.05 and 1.25, by 6e-5 at 1.5 and by 11e-5 at 2 (nats a token)."""

LEAST = 1 / 256
"""Of the largest scale of a cache: a channel that was near zero on the feeds has no finer one."""


def scales(
    model: ir.Model, places: Sequence[Place], context: Context
) -> dict[str, npt.NDArray[np.float32]]:
    """The scale of each channel of each head, [groups, 1, size], by the name of the output.

    Caches that were not seen, or held what is no number, have none.
    """
    if context.observe is None:
        return {}
    probe = model.clone()
    values = {value.name: value for node in probe.graph for value in node.outputs}
    names = {place.present.name or "": _by_channel(values, probe, place) for place in places}
    seen = context.observe(probe, list(names.values()))
    found = {}
    for place in places:
        name = place.present.name or ""
        if names[name] not in seen:
            continue
        bounds = np.stack([seen[names[name]].least, seen[names[name]].largest])
        peaks = np.abs(bounds.astype(np.float64)).max(axis=0)
        # Where the number of channels varies over the feeds, or one of them was infinite.
        if peaks.size != place.groups * place.size or not np.isfinite(peaks).all():
            continue
        steps = peaks.reshape(place.groups, 1, place.size) * (MARGIN / LARGEST)
        found[name] = np.maximum(steps, LEAST * steps.max() or 1.0).astype(np.float32)
    return found


def _by_channel(values: dict[str | None, ir.Value], probe: ir.Model, place: Place) -> str:
    """The name of a new value that holds the cache as [batch, positions, groups * size]."""
    source, graph = values[place.present.name], probe.graph
    shape = add_initializer(graph, "channels", ir.tensor(np.array([0, 0, -1], np.int64)))
    turned = ir.node("Transpose", [source], {"perm": HEADS_INSIDE})
    flat = ir.node("Reshape", [turned.outputs[0], shape])
    for node in (turned, flat):
        graph.append(node)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    flat.outputs[0].name = f"{place.present.name} by channel"
    return flat.outputs[0].name
