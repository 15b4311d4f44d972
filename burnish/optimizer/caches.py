"""Caches that a caller hands from run to run in int8: ports whose type a pass may change.

Inside a compilation every model has the caller's types: at such a port it rounds what comes in, and
gives back what the integers stand for. So passes, checks and comparisons need to know nothing of
it. Only the artifact is exposed: there, the integers themselves are the ports.
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

INTEGERS = ir.DataType.INT8


@dataclass(frozen=True, eq=False)
class Cache:
    """An input and an output that are the same cache, before a run and after it.

    Attributes:
        past, present: names of the ports, [batch, groups, positions, size].
        stored, grown: names of the values in int8 that take their places in the artifact.
        scale: what an integer stands for, [groups, 1, size], in float32.
    """

    past: str
    present: str
    stored: str
    grown: str
    scale: npt.NDArray[np.float32]

    @property
    def inverse(self) -> npt.NDArray[np.float32]:
        """What numbers are multiplied by before they are rounded."""
        return (1.0 / self.scale.astype(np.float64)).astype(np.float32)

    def rounded(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """Numbers as integers, ties to even, cut at -128 and 127."""
        nearest = np.rint(array * self.inverse)
        integers: npt.NDArray[np.int8] = np.clip(nearest, -128, 127).astype(np.int8)
        return integers

    def restored(self, array: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
        """What integers stand for."""
        return array.astype(np.float32) * self.scale

    def as_json(self) -> list[dict[str, str]]:
        """How the ports changed, as the report shows it."""
        types = {"from": ir.DataType.FLOAT.name, "to": INTEGERS.name}
        return [{"name": name, **types} for name in (self.past, self.present)]


def within(caches: Iterable[Cache], model: ir.Model) -> list[Cache]:
    """Those of the caches that a model has; earlier models do not round them."""
    known = {value.name for node in model.graph for value in node.outputs}
    return [item for item in caches if {item.stored, item.grown} <= known]


def exposed(model: ir.Model, caches: Sequence[Cache]) -> ir.Model:
    """The model with the integers as ports; the model itself where there are no caches."""
    if not caches:
        return model
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in node.outputs}
    inputs = {value.name: value for value in copy.graph.inputs}
    for item in caches:
        stored, port = values[item.stored], inputs[item.past]
        ir.convenience.replace_all_uses_with(stored, port)
        prune([stored])
        port.type = ir.TensorType(INTEGERS)
        grown = values[item.grown]
        old = replace_output(copy.graph, item.present, grown, f"{item.present}_numbers")
        grown.shape, grown.type = old.shape, ir.TensorType(INTEGERS)
        prune([old])
    return copy


def signature(original: Signature, caches: Iterable[Cache]) -> Signature:
    """The signature that an artifact has to have: that of the input, but for the caches' types."""
    names = {name for item in caches for name in (item.past, item.present)}

    def changed(ports: tuple[Port, ...]) -> tuple[Port, ...]:
        kind = INTEGERS.name
        return tuple(replace(port, dtype=kind) if port.name in names else port for port in ports)

    return replace(original, inputs=changed(original.inputs), outputs=changed(original.outputs))


def rounded(feed: Mapping[str, Array], caches: Iterable[Cache]) -> dict[str, Array]:
    """A feed of the caller's types as the artifact takes it."""
    return {**feed, **{item.past: item.rounded(feed[item.past]) for item in caches}}


def restored(outputs: Mapping[str, Array], caches: Iterable[Cache]) -> dict[str, Array]:
    """What the artifact gives, in the caller's types."""
    return {**outputs, **{item.present: item.restored(outputs[item.present]) for item in caches}}
