"""Tokens through operators that move, split, merge and reduce axes."""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import replace

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.selection.places import Needs, Place, Request
from burnish.optimizer.analysis.sizes import ONE, Shape, Size, agree, axes_of, numbers, product


def transpose(request: Request) -> Needs:
    """Axes are permuted."""
    place, whole = request.place, request.result
    assert whole is not None
    order = request.node.attributes.get_ints("perm", range(len(whole))[::-1])
    rows = place.rows
    if rows is not None and not place.merged:
        rows = order[rows]
    return [replace(place, axis=order[place.axis], rows=rows)]


def reshape(request: Request) -> Needs:
    """Axes keep their tokens where what comes before them is the same, as a product."""
    source, whole, place = request.shape(0), request.result, request.place
    assert source is not None and whole is not None
    if place.merged:
        found = _split(source, whole, place)
    else:
        found = _kept(source, whole, place) or _merged(source, whole, place)
    if found is None:
        return f"{request.node.op_type} does not keep the axis of the tokens"
    return request.first_only(found)


def _kept(source: Shape, whole: Shape, place: Place) -> Place | None:
    axis = _same_axis(source, whole, place.axis)
    rows = None if place.rows is None else _same_axis(source, whole, place.rows)
    if axis is None or (place.rows is not None and rows is None):
        return None
    return replace(place, axis=axis, rows=rows)


def _same_axis(source: Shape, whole: Shape, axis: int) -> int | None:
    """The axis of the source that is one of the result; None where there is none."""
    before = product(whole[:axis])
    fits = [
        index
        for index in range(len(source))
        if source[index] == whole[axis] and product(source[:index]) == before
    ]
    # Of several only the last is not followed by axes of length 1, and only one is the tokens'.
    return fits[0] if len(fits) == 1 else None


def _merged(source: Shape, whole: Shape, place: Place) -> Place | None:
    """The place where an axis of the source is several of the result."""
    for axis, size in enumerate(source):
        for first in range(place.axis + 1):
            if product(whole[:first]) != product(source[:axis]):
                continue
            for last in range(place.axis + 1, len(whole) + 1):
                part = whole[first:last]
                if len(part) > 1 and product(part) == size:
                    rows = None if place.rows is None else place.rows - first
                    if rows is not None and not 0 <= rows < len(part):
                        return None
                    return Place(axis, rows, True, part, place.axis - first)
    return None


def _split(source: Shape, whole: Shape, place: Place) -> Place | None:
    """The place where several axes of the source are one of the result."""
    count, before = len(place.merged), product(whole[: place.axis])
    for axis in range(len(source)):
        if product(source[:axis]) != before:
            continue
        if source[axis : axis + count] == place.merged:
            rows = None if place.rows is None else place.rows + axis
            return Place(axis + place.tokens, rows)
        if source[axis] == product(place.merged):
            return replace(place, axis=axis)
    return None


def unsqueeze(request: Request) -> Needs:
    """Axes of length 1 are put in."""
    axes, whole = axes_of(request.node, request.sizes), request.result
    if axes is None or whole is None:
        return "the axes of Unsqueeze are not known"
    new = {axis % len(whole) for axis in axes}
    kept = [axis for axis in range(len(whole)) if axis not in new]
    return _renumbered(request, {axis: index for index, axis in enumerate(kept)})


def squeeze(request: Request) -> Needs:
    """Axes of length 1 are left out."""
    axes, shape = axes_of(request.node, request.sizes), request.shape(0)
    if axes is None or shape is None:
        return "the axes of Squeeze are not known"
    gone = {axis % len(shape) for axis in axes}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return _renumbered(request, dict(enumerate(kept)))


def _renumbered(request: Request, axes: dict[int, int]) -> Needs:
    place = request.place
    fixed = place.rows is None or bool(place.merged)
    if place.axis not in axes or not (fixed or place.rows in axes):
        return f"{request.node.op_type} makes the axis of the tokens"
    rows = place.rows if fixed else axes[place.rows or 0]
    return request.first_only(replace(place, axis=axes[place.axis], rows=rows))


def split_or_concat(request: Request) -> Needs:
    """Parts along another axis."""
    whole, node = request.result, request.node
    assert whole is not None
    if request.touches(node.attributes.get_int("axis", 0) % len(whole)):
        return f"{node.op_type} is along the tokens"
    if node.op_type == "Split":
        return request.first_only()
    return [request.place] * len(node.inputs)


def slice(request: Request) -> Needs:
    """Parts along another axis; a slice of all is no slice."""
    whole = request.result
    assert whole is not None
    axes = numbers(request.sizes.elements(optional(request.node, 3)))
    steps = optional(request.node, 4)
    forward = steps is None or set(numbers(request.sizes.elements(steps)) or [0]) == {1}
    if axes is None or not forward:
        return "the axes of Slice are not known, or its steps are not 1"
    for axis in (axis % len(whole) for axis in axes):
        shape = request.shape(0)
        if request.touches(axis) and shape is not None and shape[axis] != whole[axis]:
            return "Slice is along the tokens"
    return request.first_only()


def gather(request: Request) -> Needs:
    """Tokens of the indices, or of what is looked up in."""
    data, indices, place = request.shape(0), request.shape(1), request.place
    assert data is not None and indices is not None
    first = request.node.attributes.get_int("axis", 0) % len(data)
    last = first + len(indices)
    if place.merged:
        return "Gather reads tokens that are merged with rows"

    def inside(axis: int | None) -> bool:
        return axis is None or first <= axis < last

    if inside(place.axis) and inside(place.rows):
        rows = None if place.rows is None else place.rows - first
        return [None, replace(place, axis=place.axis - first, rows=rows)]
    if inside(place.axis) or (place.rows is not None and inside(place.rows)):
        return "Gather mixes tokens and rows"
    shift = 1 - len(indices)
    axis = place.axis + (shift if place.axis >= last else 0)
    rows = place.rows
    if rows is not None:
        rows += shift if rows >= last else 0
    return [replace(place, axis=axis, rows=rows), None]


def gather_elements(request: Request) -> Needs:
    """Tokens of both operands."""
    data, indices = request.shape(0), request.shape(1)
    assert data is not None and indices is not None
    if request.touches(request.node.attributes.get_int("axis", 0) % len(data)):
        return "GatherElements is along the tokens"
    if not agree(data[request.place.axis], indices[request.place.axis]):
        return "GatherElements leaves tokens out"
    return [request.place, request.place]


def reduce(request: Request) -> Needs:
    """Reductions over other axes."""
    axes, shape, node = None, request.shape(0), request.node
    assert shape is not None
    if node.op_type.startswith("Arg"):
        axes = [node.attributes.get_int("axis", 0)]
    else:
        axes = axes_of(node, request.sizes)
    if not axes:
        return f"{node.op_type} may be over the tokens"
    gone = {axis % len(shape) for axis in axes}
    if node.attributes.get_int("keepdims", 1):
        over = any(request.touches(axis) for axis in gone)
        return f"{node.op_type} is over the tokens" if over else request.first_only()
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return _renumbered(request, dict(enumerate(kept)))


COPIED, INFERRED = Size.of(0), Size.of(-1)
"""Sizes in the target of a Reshape: the operand's at the same axis, and what is left."""


def target(
    request: Request, needed: Place, count: int | None, names: Container[Hashable]
) -> Shape | None:
    """The new target of a Reshape for `count` tokens; None where it cannot be written.

    Zeros copy sizes of the operand, and at most one size is left for the operator to find out;
    what more there is must be one of the symbolic dimensions in `names`.
    """
    source, whole, place = request.shape(0), request.result, request.place
    assert source is not None and whole is not None
    sizes: list[Size] = []
    for axis, size in enumerate(whole):
        known = size.number
        if place.anywhere and not place.merged and axis == place.rows:
            sizes.append(ONE)
        elif axis == place.axis:
            same = axis == needed.axis and place.merged == needed.merged
            fixed = count is not None and not place.merged
            sizes.append(COPIED if same else Size.of(count or 0) if fixed else INFERRED)
        elif known is not None and known > 0:
            sizes.append(size)
        else:
            same = axis < len(source) and source[axis] == size and axis != needed.axis
            sizes.append(COPIED if same else INFERRED)
    for axis, size in enumerate(whole):
        told = axis != place.axis and all(atom in names for atom in size.atoms)
        if sizes.count(INFERRED) > 1 and sizes[axis] == INFERRED and told:
            sizes[axis] = size
    return tuple(sizes) if sizes.count(INFERRED) <= 1 else None
