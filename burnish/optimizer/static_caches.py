"""Caches of a capacity that the caller fixes: ports that hand over what is new, and not the whole.

A run is given buffers [batch, groups, capacity, size] of which the mask tells the positions that
are used, wherever those lie, and gives the keys and values of its own tokens, which the caller
writes into the buffers. Nothing is copied from run to run (the same is Transformers'
`StaticCache`).

Inside a compilation every model has the caller's outputs: the past with the new positions behind
it. Only the artifact is exposed: there, the new positions are the outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.pruning import prune, replace_output
from burnish.optimizer.signature import Port, Signature

Array = npt.NDArray[Any]

LAYOUT = ("burnish.caches", "static")
"""Metadata by which a runtime knows such an artifact."""

HOLE, FILLING = 3, 5.0
"""Unused positions that checks put behind the past, and what lies there."""

BUFFER = "of any capacity"
"""What the report says of a past that is a buffer."""

POSITIONS = 2
"""The axis of a cache that runs over positions."""


@dataclass(frozen=True)
class StaticCache:
    """An input and an output that are the same cache, before a run and what the run adds.

    Attributes:
        past, present: names of the ports, [batch, groups, positions, size].
        new: name of the value with the new positions that takes the output's place.
        mask: name of the input [batch, past + new] that tells which positions are used.
        rows: the size of the output's third axis, in the artifact.
    """

    past: str
    present: str
    new: str
    mask: str
    rows: int | str | None

    def as_json(self) -> list[dict[str, str]]:
        """How the ports changed, as the report shows it."""
        return [
            {"name": self.past, "from": "as long as the past", "to": BUFFER},
            {"name": self.present, "from": "past and new positions", "to": "new positions"},
        ]


def within(caches: Iterable[StaticCache], model: ir.Model) -> list[StaticCache]:
    """Those of the caches that a model has."""
    known = {value.name for node in model.graph for value in node.outputs}
    return [item for item in caches if item.new in known]


def exposed(model: ir.Model, caches: Sequence[StaticCache]) -> ir.Model:
    """The model with the new positions as outputs; the model itself where there are no caches."""
    if not caches:
        return model
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in node.outputs}
    for item in caches:
        new = values[item.new]
        old = replace_output(copy.graph, item.present, new, f"{item.present}_whole")
        assert old.shape is not None
        new.shape = ir.Shape([*old.shape[:POSITIONS], item.rows, *old.shape[POSITIONS + 1 :]])
        new.type = old.type
        prune([old])
    copy.metadata_props.update([LAYOUT])
    return copy


def signature(original: Signature, caches: Iterable[StaticCache]) -> Signature:
    """The signature that an artifact has to have: that of the input, but for what outputs hold."""
    rows = {item.present: item.rows for item in caches}

    def changed(port: Port) -> Port:
        if port.name not in rows or port.shape is None:
            return port
        shape = (*port.shape[:POSITIONS], rows[port.name], *port.shape[POSITIONS + 1 :])
        return replace(port, shape=shape)

    return replace(original, outputs=tuple(map(changed, original.outputs)))


def given(feed: Mapping[str, Array], caches: Iterable[StaticCache]) -> dict[str, Array]:
    """A feed with unused positions behind the past, which the mask hides.

    A mask that is one number for all positions can hide none: there the capacity is the past.
    """
    made = dict(feed)
    for item in caches:
        past, mask = feed[item.past], feed[item.mask]
        behind = [past.shape[POSITIONS]] * HOLE
        if mask.shape[1] > max(1, past.shape[POSITIONS]):
            made[item.past] = np.insert(past, behind, FILLING, axis=POSITIONS)
            made[item.mask] = np.insert(mask, behind, 0, axis=1)
    return made


def taken(
    outputs: Mapping[str, Array], feed: Mapping[str, Array], caches: Iterable[StaticCache]
) -> dict[str, Array]:
    """What the artifact gives for the caller's feed, with the past in front of what is new."""
    made = dict(outputs)
    for item in caches:
        parts = [feed[item.past], outputs[item.present]]
        made[item.present] = np.concatenate(parts, axis=POSITIONS)
    return made
