"""Names for new values of a graph."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.model import value_names


class Names:
    """Gives each new value of a graph a name that nothing in it has."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = value_names(graph)

    def free(self, name: str) -> str:
        """The name, or one like it that is not taken; it is taken from now on."""
        free, count = name, 1
        while free in self._taken:
            count += 1
            free = f"{name}_{count}"
        self._taken.add(free)
        return free
