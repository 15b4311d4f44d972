"""Where tokens are in the operands of a node."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.sizes import ONE, Shape, Sizes, agree


@dataclass(frozen=True)
class Place:
    """Where in a value the tokens are that a selection takes.

    Attributes:
        axis: of the tokens; of the merged axis where tokens are merged with other axes.
        rows: axis along which the selection differs, for one that takes other tokens in each row;
            negative where the value's rank ends before it. In `merged`, its index there.
        varies: whether the value itself has these rows; else it is the same for all of them.
        merged: sizes of the axes that `axis` holds flattened; empty where it holds tokens only.
        tokens: index of the tokens in `merged`.
        anywhere: whether any number of tokens is taken from any rows, and becomes one row.
    """

    axis: int
    rows: int | None = None
    varies: bool = True
    merged: Shape = ()
    tokens: int = 0
    anywhere: bool = False


Needs = list[Place | None] | str
"""By operand, the place of the tokens, or None for all of it; or why there is no such place."""


@dataclass(frozen=True)
class Request:
    """Some tokens of the results of a node."""

    node: ir.Node
    place: Place
    sizes: Sizes

    def shape(self, index: int) -> Shape | None:
        """The shape of an operand."""
        return self.sizes.shape(optional(self.node, index))

    @property
    def result(self) -> Shape | None:
        """The shape of the results; Split's differ along its own axis."""
        return self.sizes.shape(self.node.outputs[0])

    def first_only(self, place: Place | None = None) -> Needs:
        """The place in the first operand, and the others whole."""
        return [place or self.place, *[None] * (len(self.node.inputs) - 1)]

    def touches(self, axis: int) -> bool:
        """Whether the tokens, or the rows they are taken from, are along an axis."""
        return axis == self.place.axis or (not self.place.merged and axis == self.place.rows)


def gathered(parts: list[Place | str | None]) -> Needs:
    """The places, or the first reason among them."""
    reasons = [part for part in parts if isinstance(part, str)]
    return reasons[0] if reasons else [part for part in parts if not isinstance(part, str)]


def operand(request: Request, index: int) -> Place | str | None:
    """The place in an operand that is broadcast to the result, aligned at the last axes."""
    mine, whole, place = request.shape(index), request.result, request.place
    if mine is None or whole is None:
        return None
    shift = len(whole) - len(mine)
    axis = place.axis - shift
    if axis < 0 or (mine[axis] == ONE and whole[axis] != ONE):
        return None
    if not agree(mine[axis], whole[axis]):
        return f"whether an operand of {request.node.op_type} differs by token is not known"
    if place.rows is None or place.merged:
        return replace(place, axis=axis)
    rows = place.rows - shift
    if rows < 0 or (mine[rows] == ONE and whole[rows] != ONE):
        return replace(place, axis=axis, rows=rows, varies=False)
    if not agree(mine[rows], whole[rows]):
        return f"whether an operand of {request.node.op_type} differs by row is not known"
    return replace(place, axis=axis, rows=rows)
