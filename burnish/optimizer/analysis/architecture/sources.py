"""Which inputs of a model a value tells of: what makes an attention one between two texts."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import SIZES, Flow
from burnish.optimizer.roles import Role, Slot

SELF, CROSS, LEARNED = "self", "cross", "learned query"

CONTENT = (Role.IDS, Role.NUMBERS)
"""Roles of inputs that hold what a model reads; the others say where and how long it is."""


class Sources:
    """Inputs with content behind each value of a graph, in one pass over its nodes."""

    def __init__(self, flow: Flow, inputs: Iterable[ir.Value], slots: Iterable[Slot]) -> None:
        content = {slot.port.name for slot in slots if slot.role in CONTENT}
        telling = [value for value in inputs if value.name in content]
        self._behind: dict[ir.Value, int] = {
            value: 1 << place for place, value in enumerate(telling)
        }
        for node in flow.nodes:
            if node.op_type in SIZES:
                continue
            found = 0
            for value in node.inputs:
                found |= self._behind.get(value, 0) if value is not None else 0
            if found:
                self._behind.update(dict.fromkeys(node.outputs, found))

    def kind(self, query: ir.Value | None, key: ir.Value | None) -> str:
        """What an attention is: `SELF`, `CROSS` where keys know less of the inputs, `LEARNED`.

        Keys of a text's own tokens, cached or not, come from the input that its queries come from.
        """
        mine, theirs = (self._behind.get(value, 0) if value else 0 for value in (query, key))
        if not mine and theirs:
            return LEARNED
        return CROSS if mine & ~theirs else SELF
