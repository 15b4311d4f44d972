"""Token ids with other numbers: ports whose values a pass may change.

As with `caches`, within a compilation every model takes the caller's ids, and gives logits of all
of them: it looks the new ids up, and logits of tokens that are cut are minus infinity. Only the
artifact is exposed: there, the new ids are the ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.pruning import prune, replace_output
from burnish.optimizer.signature import Port, Signature

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Renumbering:
    """Ids that are kept, and the ports that they come in and go out by.

    Attributes:
        kept: old ids below `rows`, ascending; an id's place is the new one.
        rows: how many ids there were.
        inputs: names of the inputs, and of the values with the new ids that take their places.
        outputs: names of the outputs, and of the values with the kept logits that take theirs.
    """

    kept: tuple[int, ...]
    rows: int
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def is_in(self, model: ir.Model) -> bool:
        """Whether a model has the values; earlier ones do not number anew."""
        known = {value.name for node in model.graph for value in node.outputs}
        return {name for _, name in (*self.inputs, *self.outputs)} <= known

    def exposed(self, model: ir.Model) -> ir.Model:
        """The model with the new ids as ports."""
        copy = model.clone()
        values = {value.name: value for node in copy.graph for value in node.outputs}
        ports = {value.name: value for value in copy.graph.inputs}
        for name, inner in self.inputs:
            new, port = values[inner], ports[name]
            ir.convenience.replace_all_uses_with(new, port)
            prune([new])
        for name, inner in self.outputs:
            self._give(copy.graph, name, values[inner])
        return copy

    def _give(self, graph: ir.Graph, name: str, value: ir.Value) -> None:
        """Let the kept logits be the output of that name; what only the old one needed goes."""
        old = next(item for item in graph.outputs if item.name == name)
        if value.dtype is not old.dtype and old.dtype is not None:  # a later pass computes in half
            maker = value.producer()
            assert maker is not None
            cast = ir.node("Cast", [value], {"to": old.dtype.value})
            graph.insert_after(maker, cast)
            value = cast.outputs[0]
        replace_output(graph, name, value, f"{name}_of_all")
        value.type = old.type
        if old.shape is not None:
            value.shape = ir.Shape([*list(old.shape)[:-1], len(self.kept)])
        prune([old])

    def signature(self, original: Signature) -> Signature:
        """The signature of the artifact: that of the input but for the size of the vocabulary."""
        names = {name for name, _ in self.outputs}

        def changed(port: Port) -> Port:
            if port.name not in names or port.shape is None:
                return port
            return replace(port, shape=(*port.shape[:-1], len(self.kept)))

        return replace(original, outputs=tuple(map(changed, original.outputs)))

    def renumbered(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """A feed of the caller's ids, all of them kept, as the artifact takes it."""
        found, kept = dict(feed), np.array(self.kept, np.int64)
        for name, _ in self.inputs:
            ids = feed[name]
            found[name] = np.where(ids < 0, ids, np.searchsorted(kept, ids)).astype(ids.dtype)
        return found

    def restored(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the artifact gives, as logits of all ids."""
        found = dict(outputs)
        for name, _ in self.outputs:
            logits = outputs[name]
            wide = np.full((*logits.shape[:-1], self.rows), -np.inf, logits.dtype)
            wide[..., np.array(self.kept, np.int64)] = logits
            found[name] = wide
        return found
