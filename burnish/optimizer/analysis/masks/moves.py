"""Operators that move elements: their output's element is an input's at another position."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.masks.bounds import lower
from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.logic import both, less, less_or_equal
from burnish.optimizer.analysis.masks.rewrite import axes
from burnish.optimizer.analysis.masks.tensors import (
    LONGEST,
    Tensor,
    Unsupported,
    clamped,
    moved,
)
from burnish.optimizer.analysis.masks.terms import (
    FALSE,
    ONE,
    ZERO,
    Term,
    add,
    const,
    index,
    is_const,
    minus,
    pick,
    times,
    where,
)

BOOL = ir.DataType.BOOL


def numbers(tensor: Tensor) -> list[int]:
    """A short vector of constants."""
    items = tensor.items
    if any(item.op != "const" for item in items):
        raise Unsupported("not constant")
    return [int(item.value) for item in items]


def _axes(node: ir.Node, tensors: list[Tensor]) -> list[int] | None:
    """Axes from an input, or from an attribute under older operator sets."""
    if len(tensors) > 1:
        return numbers(tensors[1])
    found = node.attributes.get_ints("axes", None)
    return list(found) if found is not None else None


def unsqueeze(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Unsqueeze."""
    source, axes = tensors[0], _axes(node, tensors) or []
    rank = source.rank + len(axes)
    new = {axis % rank for axis in axes}
    kept = [axis for axis in range(rank) if axis not in new]
    sizes = dict(zip(kept, source.shape, strict=True))
    shape = tuple(sizes.get(axis, ONE) for axis in range(rank))
    return moved(source, shape, lambda: [index(axis, shape[axis]) for axis in kept])


def squeeze(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Squeeze."""
    source, axes = tensors[0], _axes(node, tensors)
    if axes is None:
        axes = [axis for axis, extent in enumerate(source.shape) if extent is ONE]
    gone = {source.axis(axis) for axis in axes}
    kept = [axis for axis in range(source.rank) if axis not in gone]
    shape = tuple(source.shape[axis] for axis in kept)
    places = {axis: index(place, source.shape[axis]) for place, axis in enumerate(kept)}
    return moved(source, shape, lambda: [places.get(axis, ZERO) for axis in range(source.rank)])


def transpose(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Transpose."""
    source = tensors[0]
    order = list(node.attributes.get_ints("perm", tuple(reversed(range(source.rank)))))
    shape = tuple(source.shape[axis] for axis in order)
    places = [index(order.index(axis), extent) for axis, extent in enumerate(source.shape)]
    return moved(source, shape, lambda: places)


def expand(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Expand."""
    source, target = tensors[0], tensors[1].items
    rank = max(source.rank, len(target))
    own = [ONE] * (rank - source.rank) + list(source.shape)
    asked = [ONE] * (rank - len(target)) + target
    shape = tuple(new if old is ONE else old for old, new in zip(own, asked, strict=True))
    assumed = {
        f"{old} == {new}"
        for old, new in zip(own, asked, strict=True)
        if ONE not in (old, new) and old is not new
    }
    offset = rank - source.rank
    places = [
        ZERO if extent is ONE else index(axis + offset, extent)
        for axis, extent in enumerate(source.shape)
    ]
    return Tensor(source.dtype, shape, lambda: source.at(places), source.assumed | assumed)


def tile(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Tile."""
    source, repeats = tensors[0], tensors[1].items
    shape = tuple(times(old, new) for old, new in zip(source.shape, repeats, strict=True))
    return moved(
        source,
        shape,
        lambda: [
            call("mod", index(axis, shape[axis]), extent)
            for axis, extent in enumerate(source.shape)
        ],
    )


def slice_(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Slice; backwards only over a whole axis, or where all sizes are known."""
    if len(tensors) < 3:
        raise Unsupported("Slice of an old operator set")
    source, starts, ends = tensors[0], tensors[1].items, tensors[2].items
    axes = numbers(tensors[3]) if len(tensors) > 3 else list(range(len(starts)))
    steps = numbers(tensors[4]) if len(tensors) > 4 else [1] * len(starts)
    shape, places, assumed = list(source.shape), source.positions(), set(source.assumed)
    for start, end, number, step in zip(starts, ends, axes, steps, strict=True):
        axis = source.axis(number)
        extent = source.shape[axis]
        if all(item.op == "const" for item in (start, end, extent)):
            taken = range(int(extent.value))[int(start.value) : int(end.value) : step]
            shape[axis] = const(len(taken))
            places[axis] = add(const(taken.start), times(const(step), index(axis, shape[axis])))
            continue
        if step == -1 and is_const(start, -1) and end.op == "const" and end.value < -(1 << 30):
            places[axis] = minus(minus(extent, ONE), index(axis, extent))
            continue
        if step < 1:
            raise Unsupported("Slice with a negative step")
        assumed |= {
            f"{item} >= 0" for item in (start, end) if item.op != "const" and lower(item) < 0
        }
        first, last = clamped(start, extent), clamped(end, extent)
        length = minus(last, first)
        if step > 1:
            length = call("floor_div", add(length, const(step - 1)), const(step))
        shape[axis] = length
        places[axis] = add(first, times(const(step), index(axis, length)))
    whole = tuple(shape)
    return Tensor(source.dtype, whole, lambda: source.at(places), frozenset(assumed))


def concat(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Concat; parts of one element each are a list."""
    first = tensors[0]
    axis = first.axis(node.attributes.get_int("axis", 0))
    lengths = [tensor.shape[axis] for tensor in tensors]
    length = add(*lengths)
    shape = tuple(length if place == axis else extent for place, extent in enumerate(first.shape))
    for place in range(first.rank):
        sizes = [tensor.shape[place] for tensor in tensors if tensor.shape[place].op != "const"]
        if place != axis and sizes:
            shape = (*shape[:place], min(sizes, key=lambda item: item.weight), *shape[place + 1 :])

    def part(tensor: Tensor, position: Term) -> Term:
        return tensor.at(
            position
            if place == axis
            else (ZERO if tensor.shape[place] is ONE else index(place, shape[place]))
            for place in range(tensor.rank)
        )

    def formula() -> Term:
        position = index(axis, length)
        if all(item.op == "const" for item in lengths) and length.value <= LONGEST:
            pairs = zip(tensors, lengths, strict=True)
            return pick(
                position, tuple(part(t, const(i)) for t, n in pairs for i in range(n.value))
            )
        ends = [add(*lengths[: count + 1]) for count in range(len(lengths))]
        result = part(tensors[-1], minus(position, ends[-2]) if len(ends) > 1 else position)
        for place in reversed(range(len(tensors) - 1)):
            start = ends[place - 1] if place else ZERO
            here = part(tensors[place], minus(position, start))
            result = where(less(position, ends[place]), here, result)
        return result

    return Tensor(first.dtype, shape, formula, frozenset().union(*(t.assumed for t in tensors)))


def pad(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Pad with one number."""
    if (
        len(tensors) < 2
        or len(node.inputs) > 3
        or node.attributes.get_string("mode", "constant") != "constant"
    ):
        raise Unsupported("Pad")
    source, amounts = tensors[0], numbers(tensors[1])
    filler = tensors[2].element if len(tensors) > 2 else FALSE if source.dtype is BOOL else ZERO
    before = amounts[: source.rank]
    pairs = zip(source.shape, before, amounts[source.rank :], strict=True)
    shape = tuple(add(extent, const(front + back)) for extent, front, back in pairs)

    def formula() -> Term:
        places = [
            minus(index(axis, shape[axis]), const(front)) for axis, front in enumerate(before)
        ]
        inside = [
            both(less_or_equal(ZERO, place), less(place, extent))
            for place, extent in zip(places, source.shape, strict=True)
        ]
        return where(both(*inside), source.at(places), filler)

    return Tensor(source.dtype, shape, formula, source.assumed)


def place_in(position: Term, axis: int, source: Tensor) -> Term:
    """An index from the start; a negative constant counts from the end."""
    extent, element = source.shape[axis], source.element
    if position.op == "const" and position.value < 0:
        return add(extent, position)
    # A lookup counts from the end by itself, where it is at the position as it is.
    plain = element.op == "lookup" and index(axis, extent) in element.args
    if lower(position) < 0 and not plain and axis in axes(element):
        raise Unsupported("an index that may be negative")
    return position


def gather(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Gather."""
    source, indices = tensors
    axis = source.axis(node.attributes.get_int("axis", 0))
    shape = (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])

    def formula() -> Term:
        places = [index(place, extent) for place, extent in enumerate(shape)]
        position = indices.at(places[axis : axis + indices.rank])
        position = place_in(position, axis, source)
        return source.at([*places[:axis], position, *places[axis + indices.rank :]])

    return Tensor(source.dtype, shape, formula, source.assumed | indices.assumed)


def gather_nd(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """GatherND."""
    source, indices = tensors
    batch, depth = node.attributes.get_int("batch_dims", 0), indices.shape[-1]
    if depth.op != "const":
        raise Unsupported("GatherND whose depth is not known")
    rest = source.shape[batch + depth.value :]
    shape = (*indices.shape[:-1], *rest)

    def formula() -> Term:
        places = [index(place, extent) for place, extent in enumerate(shape)]
        outer = places[: indices.rank - 1]
        found = [
            place_in(indices.at([*outer, const(number)]), batch + number, source)
            for number in range(depth.value)
        ]
        return source.at([*outer[:batch], *found, *places[indices.rank - 1 :]])

    return Tensor(source.dtype, shape, formula, source.assumed | indices.assumed)


def gather_elements(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """GatherElements."""
    source, indices = tensors
    axis = source.axis(node.attributes.get_int("axis", 0))

    def formula() -> Term:
        places = indices.positions()
        position = place_in(indices.element, axis, source)
        return source.at([*places[:axis], position, *places[axis + 1 :]])

    return Tensor(source.dtype, indices.shape, formula, source.assumed | indices.assumed)


OPERATORS = {
    "Unsqueeze": unsqueeze, "Squeeze": squeeze, "Transpose": transpose, "Expand": expand,
    "Tile": tile, "Slice": slice_, "Concat": concat, "Pad": pad, "Gather": gather,
    "GatherND": gather_nd, "GatherElements": gather_elements,
}  # fmt: skip
"""How the output of an operator follows from its inputs."""
