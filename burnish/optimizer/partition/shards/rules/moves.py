"""Rules of operators that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.contract import Array
from burnish.optimizer.partition.shards.layout import (
    WHOLE,
    Layout,
    Parts,
    factors,
    flattened,
)
from burnish.optimizer.partition.shards.local import Local
from burnish.optimizer.partition.shards.rules.elementwise import Wants
from burnish.optimizer.partition.shards.site import Site, integers


def reshape(site: Site) -> Wants:
    """Axes that are joined or parted: each group of axes with as many elements by itself.

    A part of heads is a part of the axis that heads and channels make together; the other way
    round only where no head is cut.
    """
    before, after = site.shape(0), site.facts.shape(site.result)
    source = given(site.node, 0)
    if before is None or after is None or source is None:
        return None
    found: dict[int, Parts] = {}
    for olds, news in grouped(before, after):
        split = [site.layout[axis] for axis in news]
        if not any(split):
            continue
        mask = flattened(
            [
                parts.repeated(after[axis]) if parts else np.ones((site.ranks, after[axis]), bool)
                for axis, parts in zip(news, split, strict=True)
            ]
        )
        sizes = [before[axis] for axis in olds]
        masks = factors(mask, sizes)
        if masks is None:
            whole = math.prod(sizes)
            site.units |= {(math.prod(sizes[index:]), whole) for index in range(1, len(sizes))}
            return None
        period = _fixed_tail(site, news)
        for axis, item in zip(olds, masks, strict=True):
            parts = _parts(item, period, fixed=site.facts.fixed(source, axis))
            if parts is None:
                return None
            found[axis] = parts
    return [Layout.of(found), *site.whole()[1:]]


def _fixed_tail(site: Site, axes: Sequence[int]) -> int:
    """Elements of the last of these axes of the output whose sizes are fixed."""
    shape, size = site.facts.shape(site.result) or (), 1
    for axis in reversed(axes):
        if not site.facts.fixed(site.result, axis):
            parts = site.layout[axis]
            return size * parts.size if parts is not None else size
        size *= shape[axis]
    return size


def _parts(mask: Array, period: int, *, fixed: bool) -> Parts | None:
    if mask.all() or fixed:
        return Parts.of(mask)
    if mask.shape[1] % period:
        return None
    pattern = mask[:, :period]
    repeated = np.tile(pattern, (1, mask.shape[1] // period))
    return Parts.of(pattern) if (repeated == mask).all() else None


def grouped(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes that hold as many elements; none where one is 0."""
    found: list[tuple[list[int], list[int]]] = []
    old = new = 0
    while old < len(before) and new < len(after):
        olds, news = [old], [new]
        have, want = before[old], after[new]
        old, new = old + 1, new + 1
        while have != want:
            if have < want and old < len(before):
                have, olds, old = have * before[old], [*olds, old], old + 1
            elif want < have and new < len(after):
                want, news, new = want * after[new], [*news, new], new + 1
            else:
                return []
        found.append((olds, news))
    return found


def transpose(site: Site) -> Wants:
    """Axes change places."""
    rank = len(site.facts.shape(site.result) or ())
    order = site.node.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return [Layout.of({order[axis]: parts for axis, parts in site.layout.axes})]


def concat(site: Site) -> Wants:
    """Along another axis all are split alike; along its own, each has its piece of the parts."""
    shape = site.facts.shape(site.result)
    if shape is None:
        return None
    axis = site.node.attributes.get_int("axis", 0) % len(shape)
    parts, rest = site.layout[axis], dict(site.layout.axes)
    if parts is None:
        return [site.layout for _ in site.node.inputs]
    wants, start = [], 0
    for place in range(len(site.node.inputs)):
        own = site.shape(place)
        if own is None:
            return None
        piece = parts.mask[:, start : start + own[axis]]
        start += own[axis]
        wants.append(Layout.of(rest | {axis: Parts.of(piece)}))
    return wants if start == parts.size else None


def split(site: Site) -> Wants:
    """Along another axis as the outputs; along its own, the outputs' parts behind each other."""
    shape = site.shape(0)
    if shape is None:
        return None
    axis = site.node.attributes.get_int("axis", 0) % len(shape)
    rests = {
        tuple(item for item in layout.axes if item[0] != axis)
        for layout in site.wanted
        if layout is not None
    }
    if len(rests) != 1:
        return None
    masks = []
    for value, layout in zip(site.node.outputs, site.wanted, strict=True):
        own = site.facts.shape(value)
        if own is None:
            return None
        parts = layout[axis] if layout is not None else None
        every = np.full((site.ranks, own[axis]), layout is not None)
        masks.append(parts.mask if parts is not None else every)
    mask = np.concatenate(masks, axis=1)
    if mask.shape[1] != shape[axis]:
        return None
    return [Layout.of(dict(rests.pop()) | {axis: Parts.of(mask)}), *site.whole()[1:]]


def split_locally(local: Local) -> None:
    """The sizes of the rank's pieces."""
    shape = local.facts.shape(local.before.inputs[0])
    axis = local.before.attributes.get_int("axis", 0) % len(shape or (1,))
    parts = local.wants[0][axis]
    if parts is None:
        return
    mask, sizes, start = parts.mask[local.rank], [], 0
    for value in local.before.outputs:
        size = (local.facts.shape(value) or ())[axis]
        sizes.append(int(mask[start : start + size].sum()))
        start += size
    for old in ("num_outputs", "split"):
        local.node.attributes.pop(old, None)
    if local.facts.opset < 13:
        local.node.attributes["split"] = ir.AttrInt64s("split", sizes)
    else:
        local.replace(1, np.array(sizes, np.int64))


def slice_(site: Site) -> Wants:
    """Along other axes as the output; a range of an axis has the parts in that range."""
    shape, after = site.shape(0), site.facts.shape(site.result)
    axes = axes_of(site.node)
    if shape is None or after is None or axes is None:
        return None
    cut = {axis % len(shape): place for place, axis in enumerate(axes)}
    found = {}
    for axis, parts in site.layout.axes:
        if axis in cut and shape[axis] != after[axis]:
            bounds = bounds_of(site.node, cut[axis], shape[axis])
            if bounds is None or parts.size != after[axis]:
                return None
            mask = np.zeros((site.ranks, shape[axis]), bool)
            mask[:, bounds[0] : bounds[1]] = parts.mask
            parts = Parts.of(mask)
        elif axis in cut and not _forward(site.node, cut[axis]):
            return None
        found[axis] = parts
    return [Layout.of(found), *site.whole()[1:]]


def axes_of(node: ir.Node) -> list[int] | None:
    """The axes that a Slice cuts; None where they are not constants."""
    starts = given(node, 1)
    if starts is None:
        return None
    if given(node, 3) is not None:
        return integers(node.inputs[3])
    count = starts.shape[0] if starts.shape is not None and len(starts.shape) else None
    return list(range(count)) if isinstance(count, int) else None


def _forward(node: ir.Node, place: int) -> bool:
    steps = [1] if given(node, 4) is None else integers(node.inputs[4])
    return steps is not None and steps[min(place, len(steps) - 1)] == 1


def bounds_of(node: ir.Node, place: int, size: int) -> tuple[int, int] | None:
    """First element and end of a range; None where it is none of constants with step 1."""
    starts, ends = integers(given(node, 1)), integers(given(node, 2))
    if starts is None or ends is None or not _forward(node, place):
        return None
    first, last = (item + size if item < 0 else item for item in (starts[place], ends[place]))
    return max(0, min(first, size)), max(0, min(last, size))


def slice_locally(local: Local) -> None:
    """Ranges are counted in the rank's elements."""
    shape = local.facts.shape(local.before.inputs[0])
    after = local.facts.shape(local.before.outputs[0])
    axes = axes_of(local.before)
    if shape is None or after is None or axes is None:
        return
    starts, ends = integers(given(local.before, 1)), integers(given(local.before, 2))
    changed = False
    for place, axis in enumerate(axes):
        parts = local.wants[0][axis % len(shape)]
        if parts is None or shape[axis] == after[axis] or starts is None or ends is None:
            continue
        bounds = bounds_of(local.before, place, shape[axis])
        assert bounds is not None
        mask, changed = parts.mask[local.rank], True
        starts[place], ends[place] = (int(mask[:bound].sum()) for bound in bounds)
    if changed:
        local.replace(1, np.array(starts, np.int64))
        local.replace(2, np.array(ends, np.int64))


def tile(site: Site) -> Wants:
    """Axes that are not repeated may be split."""
    shape, after = site.shape(0), site.facts.shape(site.result)
    if shape is None or after is None:
        return None
    if any(shape[axis] != after[axis] for axis, _ in site.layout.axes):
        return None
    return [site.layout, WHOLE]


def filled(site: Site) -> Wants:
    """A constant of any shape is as well one of a part's."""
    return [WHOLE]


def resized_locally(local: Local) -> None:
    """The sizes that a Reshape or an Expand is told."""
    local.sizes(1, local.gives[0], local.before.outputs[0])


def filled_locally(local: Local) -> None:
    """The sizes that a constant is made of."""
    local.sizes(0, local.gives[0], local.before.outputs[0])
