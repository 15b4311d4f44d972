"""Tokens through matrix products and attention."""

from __future__ import annotations

from dataclasses import replace

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.selection.places import Needs, Place, Request, gathered, operand
from burnish.optimizer.analysis.sizes import ONE, Shape, agree


def matmul(request: Request) -> Needs:
    """Rows of the left operand, or matrices of both."""
    left, right, place = request.shape(0), request.shape(1), request.place
    whole = request.result
    assert left is not None and right is not None and whole is not None
    if len(left) < 2 or len(right) < 2:
        return "an operand of MatMul is a vector"
    rank = len(whole)
    if place.axis == rank - 1:
        return "the tokens are the columns of MatMul"
    if place.axis == rank - 2:
        if place.rows is not None and not place.merged:
            return gathered([_stacked(request, 0), None])
        return [replace(place, axis=len(left) - 2), None]
    if place.rows is not None and place.rows >= rank - 2 and len(right) > 2:
        return "each token has a matrix of its own"
    return gathered([_stacked(request, 0), _stacked(request, 1) if len(right) > 2 else None])


def _stacked(request: Request, index: int) -> Place | str | None:
    """The place in an operand of MatMul, whose first axes are broadcast."""
    mine, whole, place = request.shape(index), request.result, request.place
    assert mine is not None and whole is not None
    found = operand(request, index)
    rows = place.rows
    # The last two axes of the right operand are none of the result's.
    if index == 1 and isinstance(found, str) and rows is not None and rows >= len(whole) - 2:
        return "each token has a matrix of its own"
    return found


def gemm(request: Request) -> Needs:
    """Rows of the left operand."""
    if request.place.axis != 0:
        return "the tokens are the columns of Gemm"
    across = request.node.attributes.get_int("transA", 0)
    parts: list[Place | str | None] = [replace(request.place, axis=across), None]
    if len(request.node.inputs) > 2:
        parts.append(operand(request, 2) if request.node.inputs[2] is not None else None)
    return gathered(parts)


def attention(request: Request) -> Needs:
    """Queries, and the mask's rows where it has some."""
    shape, node = request.shape(0), request.node
    assert shape is not None
    if request.place.axis != len(shape) - 2 or request.place.merged:
        return "the tokens are not the queries"
    if request.place.rows not in (None, 0):
        return "the rows are not the batch"
    if optional(node, 4) is not None or optional(node, 5) is not None or optional(node, 6):
        return "it has keys of earlier runs"
    if len(node.outputs) > 3 and (node.outputs[3].uses() or node.outputs[3].is_graph_output()):
        return "its scores are an output"
    keys = request.shape(1)
    if node.attributes.get_int("is_causal", 0) and (keys is None or keys[-2] != shape[-2]):
        return "it is causal over keys that are not its own"
    mask = optional(node, 3)
    if node.attributes.get_int("is_causal", 0) and mask is not None and mask.dtype is None:
        return "the type of its mask is not known"
    found: list[Place | str | None] = [request.place, *[None] * (len(node.inputs) - 1)]
    if optional(node, 3) is not None:
        found[3] = _mask(request, shape)
    return gathered(found)


def _mask(request: Request, query: Shape) -> Place | str | None:
    mask = request.shape(3)
    assert mask is not None
    axis = len(mask) - 2
    if axis < 0 or mask[axis] == ONE:
        return None
    if not agree(mask[axis], query[-2]):
        return "whether the mask differs by query is not known"
    if request.place.rows is None:
        return Place(axis)
    rows = len(mask) - 4
    if rows < 0 or mask[rows] == ONE:
        return Place(axis, rows, varies=False)
    return Place(axis, rows) if agree(mask[rows], query[0]) else "the mask's rows are not the batch"


def rotary(request: Request) -> Needs:
    """Tokens, and their positions or angles."""
    shape, node, place = request.shape(0), request.node, request.place
    assert shape is not None
    if place.axis != len(shape) - 2 or place.rows not in (None, 0) or place.merged:
        return "RotaryEmbedding turns another axis"
    found: list[Place | str | None] = [place, None, None]
    parts = [3] if optional(node, 3) is not None else [1, 2]
    found += [None] * (len(node.inputs) - 3)
    for index in parts:
        angles = request.shape(index)
        assert angles is not None
        if not agree(angles[1], shape[-2]):
            return "whether the angles differ by token is not known"
        varies = place.rows is None or agree(angles[0], shape[0])
        if not varies and angles[0] != ONE:
            return "whether the angles differ by row is not known"
        found[index] = Place(1, place.rows, varies)
    return gathered(found)
