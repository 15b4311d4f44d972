"""Nodes that take some tokens of a value, however the exporter wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.analysis.selection.places import Place
from burnish.optimizer.analysis.sizes import FAR, ONE, Size, Sizes, numbers

SAME_ELEMENTS = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Selection:
    """Which tokens are taken, wherever their axis is.

    Attributes:
        key: equal for equal selections, however they were written.
        bounds: first and last position and step, where these are numbers: a slice.
        bound_values: the same as values, for a slice that is computed.
        indices: positions [count], the same for all rows; or [batch, 1], one for each row.
        by_row: whether each row has a position of its own.
        anywhere: whether `indices` are pairs [count, 2] of a row and a position, each pair once.
        count: how many tokens are left; None where that is not known before a run.
    """

    key: tuple[object, ...]
    bounds: tuple[int, int, int] | None = field(default=None, compare=False)
    bound_values: tuple[ir.Value, ir.Value, ir.Value | None] | None = field(
        default=None, compare=False
    )
    indices: ir.Value | None = field(default=None, compare=False)
    by_row: bool = field(default=False, compare=False)
    anywhere: bool = field(default=False, compare=False)
    count: int | None = field(default=None, compare=False)

    @property
    def is_last(self) -> bool:
        """Whether the last token alone is taken."""
        return self.bounds == (-1, FAR, 1)


@dataclass(frozen=True)
class Root:
    """A node that selects.

    Attributes:
        node: the node.
        selection: what it takes.
        source: the value that it takes it from.
        place: the tokens in the source.
        squeezed: the axis, of the source, that its result has no more; None where it keeps all.
    """

    node: ir.Node
    selection: Selection
    source: ir.Value
    place: Place
    squeezed: int | None


def find(node: ir.Node, sizes: Sizes) -> Root | None:
    """The selection that a node is; None where it is none.

    A selection along the last axis takes features, and one of a constant is a lookup.
    """
    source = node.inputs[0] if node.inputs else None
    if source is None or node.domain != "" or source.producer() is None:
        return None
    shape = sizes.shape(source)
    if shape is None or len(shape) < 2:
        return None
    if node.op_type == "Gather":
        return _by_flat_index(node, sizes) or _gather(node, source, sizes)
    if node.op_type == "Slice":
        return _slice(node, source, sizes)
    return _by_row(node, source, sizes) if node.op_type == "GatherND" else None


def kept(root: Root, sizes: Sizes, given: Mapping[str, int]) -> tuple[int, int] | None:
    """How many tokens the selection leaves of how many at these sizes; None where not known."""
    shape = sizes.shape(root.source)
    whole = shape[root.place.axis].valued(given) if shape is not None else None
    selection = root.selection
    if selection.anywhere:
        return 1, 2  # how many it is shows in a run only, but each is taken once
    if whole is None:
        return (selection.count, selection.count + 1) if selection.count == 1 else None
    if selection.bounds is not None:
        start, end, step = selection.bounds
        return len(range(whole)[start:end:step]), whole
    if selection.count is not None:
        return selection.count, whole
    held = sizes.shape(root.node.outputs[0])
    left = held[root.place.axis].valued(given) if held is not None else None
    return (left, whole) if left is not None else None


def _single(index: int) -> tuple[int, int, int]:
    return index, FAR if index == -1 else index + 1, 1


def _gather(node: ir.Node, source: ir.Value, sizes: Sizes) -> Root | None:
    shape, indices = sizes.shape(source), node.inputs[1]
    held = sizes.shape(indices)
    assert shape is not None
    axis = node.attributes.get_int("axis", 0) % len(shape)
    if axis == len(shape) - 1 or held is None or len(held) > 1 or indices is None:
        return None
    squeezed = axis if not held else None
    places = numbers(sizes.elements(indices))
    if places is not None and len(places) == 1:
        bounds = _single(places[0])
        selection = Selection(("slice", *bounds), bounds=bounds, count=1)
    else:
        count = held[0].number if held else 1
        selection = Selection(("gather", id(indices)), indices=indices, count=count)
    return Root(node, selection, source, Place(axis), squeezed)


def _slice(node: ir.Node, source: ir.Value, sizes: Sizes) -> Root | None:
    shape, result = sizes.shape(source), sizes.shape(node.outputs[0])
    assert shape is not None
    if result is None or optional(node, 3) is None:
        return None
    axes = numbers(sizes.elements(node.inputs[3]))
    if axes is None:
        return None
    axes = [axis % len(shape) for axis in axes]
    changed = [index for index, axis in enumerate(axes) if shape[axis] != result[axis]]
    if len(changed) != 1 or axes[changed[0]] == len(shape) - 1:
        return None
    index, axis = changed[0], axes[changed[0]]
    parts = [numbers(sizes.elements(node.inputs[1])), numbers(sizes.elements(node.inputs[2]))]
    step = numbers(sizes.elements(node.inputs[4])) if optional(node, 4) is not None else [1] * 8
    if step is None or step[index] < 1 or any(step[i] != 1 for i in range(len(axes)) if i != index):
        return None
    if parts[0] is not None and parts[1] is not None:
        start, end = parts[0][index], min(parts[1][index], FAR)
        bounds = (start, end, step[index])
        left = result[axis].number
        selection = Selection(("slice", *bounds), bounds=bounds, count=left)
        return Root(node, selection, source, Place(axis), None)
    first, last = node.inputs[1], node.inputs[2]
    if len(axes) != 1 or first is None or last is None:
        return None
    values = (first, last, optional(node, 4))
    key = ("slice", *(id(value) for value in values))
    return Root(node, Selection(key, bound_values=values), source, Place(axis), None)


def _by_row(node: ir.Node, source: ir.Value, sizes: Sizes) -> Root | None:
    """`GatherND` of pairs of a row's number and a position, of which each row has one."""
    shape, pairs = sizes.shape(source), node.inputs[1]
    if shape is None or len(shape) < 3 or pairs is None:
        return None
    held = sizes.shape(pairs)
    batched = node.attributes.get_int("batch_dims", 0)
    if held is None or len(held) != 2:
        return None
    positions: ir.Value | None = None
    if batched == 1 and held[1] == ONE:
        positions = pairs
    elif batched == 0 and held[1].number == 2:
        maker = pairs.producer()
        if maker is not None and _finds_each_once(maker) and len(shape) == 3:
            selection = Selection(("pairs", id(pairs)), indices=pairs, anywhere=True)
            return Root(node, selection, source, Place(1, 0, anywhere=True), 0)
        if maker is None or maker.op_type != "Concat" or len(maker.inputs) != 2:
            return None
        rows, positions = maker.inputs[0], maker.inputs[1]
        if rows is None or not _counts_rows(rows, shape[0], sizes):
            return None
    if positions is None:
        return None
    return _rows(node, source, positions, sizes)


def _finds_each_once(node: ir.Node) -> bool:
    """Whether a node gives the pairs at which a matrix is not zero."""
    source = node.inputs[0].producer() if node.op_type == "Transpose" and node.inputs[0] else None
    return source is not None and source.op_type == "NonZero"


def _rows(node: ir.Node, source: ir.Value, positions: ir.Value, sizes: Sizes) -> Root | None:
    shape, held = sizes.shape(source), sizes.shape(positions)
    if shape is None or held is None or held[0] != shape[0]:
        return None
    selection = Selection(("rows", id(positions)), indices=positions, by_row=True, count=1)
    return Root(node, selection, source, Place(1, 0), 1)


def _counts_rows(value: ir.Value, rows: Size, sizes: Sizes) -> bool:
    """Whether a value is 0, 1, ... for the rows of the batch."""
    node = _origin(value)
    if node is None or node.op_type != "Range":
        return False
    first, _, step = (sizes.elements(part) for part in node.inputs)
    counts = first == (Size.of(0),) and step == (ONE,)
    return counts and sizes.shape(node.outputs[0]) == (rows,)


def _origin(value: ir.Value | None) -> ir.Node | None:
    """The node that computes a value, but for changes of its type and of axes of length 1."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in SAME_ELEMENTS:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node


def _by_flat_index(node: ir.Node, sizes: Sizes) -> Root | None:
    """A row of `[batch * sequence, ...]` at `row * sequence + position`, with a position by row.

    A position that is not within the sequence would be in another row: only one that `ArgMax`
    has found there is known to be.
    """
    flat, adder = node.inputs[0], node.inputs[1].producer() if node.inputs[1] is not None else None
    flattener = flat.producer() if flat is not None else None
    if flattener is None or flattener.op_type not in ("Flatten", "Reshape") or adder is None:
        return None
    source = flattener.inputs[0]
    shape, merged = sizes.shape(source), sizes.shape(flat)
    if source is None or shape is None or merged is None or len(shape) != len(merged) + 1:
        return None
    if node.attributes.get_int("axis", 0) != 0 or shape[2:] != merged[1:]:
        return None
    if adder.op_type != "Add" or len(sizes.shape(node.inputs[1]) or ()) != 1:
        return None
    for positions, offsets in (adder.inputs, reversed(adder.inputs)):
        found = _origin(positions)
        if positions is None or found is None or found.op_type != "ArgMax":
            continue
        searched = sizes.shape(found.inputs[0])
        axis = found.attributes.get_int("axis", 0)
        within = searched is not None and searched[axis] == shape[1]
        if within and _row_starts(offsets, shape, sizes):
            return _rows(node, source, positions, sizes)
    return None


def _row_starts(value: ir.Value | None, shape: tuple[Size, ...], sizes: Sizes) -> bool:
    """Whether a value is the number of the row times the length of the sequence."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Mul":
        return False
    for rows, length in (node.inputs, reversed(node.inputs)):
        if rows is None or sizes.elements(length) != (shape[1],):
            continue
        if _counts_rows(rows, shape[0], sizes):
            return True
    return False
