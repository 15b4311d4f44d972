"""Rules of operators that read elements by their indices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.contract import Array
from burnish.optimizer.partition.shards.layout import Layout, Parts
from burnish.optimizer.partition.shards.local import Local
from burnish.optimizer.partition.shards.rules.elementwise import Wants
from burnish.optimizer.partition.shards.rules.moves import axes_of, bounds_of
from burnish.optimizer.partition.shards.site import Facts, Site, constant


def gather(site: Site) -> Wants:
    """Axes of the table and of the indices; along its own, what constant indices name."""
    shape, index = site.shape(0), site.shape(1)
    if shape is None or index is None:
        return None
    axis = site.node.attributes.get_int("axis", 0) % len(shape)
    table: dict[int, Parts] = {}
    places: dict[int, Parts] = {}
    for at, parts in site.layout.axes:
        if at < axis:
            table[at] = parts
        elif at >= axis + len(index):
            table[at - len(index) + 1] = parts
        else:
            places[at - axis] = parts
    numbers = site.constant(1)
    source = site.node.inputs[0]
    known = source is not None and site.facts.fixed(source, axis)
    if places and numbers is not None and numbers.ndim == 1 and known:
        mask = np.zeros((site.ranks, shape[axis]), bool)
        for rank in range(site.ranks):
            mask[rank, numbers[places[0].mask[rank]] % shape[axis]] = True
        table[axis] = Parts.of(mask)
    return [Layout.of(table), Layout.of(places)]


def gather_locally(local: Local) -> None:
    """Constant indices are those of the rank's elements."""
    shape = local.facts.shape(local.before.inputs[0])
    axis = local.before.attributes.get_int("axis", 0) % len(shape or (1,))
    parts, places = local.wants[0][axis], local.wants[1][0]
    numbers = constant(given(local.before, 1))
    if parts is None or numbers is None:
        return
    own = numbers[places.mask[local.rank]] if places is not None else numbers
    there = np.searchsorted(parts.indices(local.rank), own % parts.size)
    local.replace(1, np.asarray(there, np.int64).reshape(own.shape))


def gather_items(site: Site) -> Wants:
    """`GatherND` by one index: as `Gather` along the first axis."""
    shape, index = site.shape(0), site.shape(1)
    if shape is None or not index or site.node.attributes.get_int("batch_dims", 0) != 0:
        return None
    ahead, named = len(index) - 1, index[-1]
    table = {at - ahead + named: parts for at, parts in site.layout.axes if at >= ahead}
    places = {at: parts for at, parts in site.layout.axes if at < ahead}
    if places and site.constant(1) is not None:
        return None
    return [Layout.of(table), Layout.of(places)]


def read_of(node: ir.Node, facts: Facts) -> dict[int, Array]:
    """By axis, which elements of its input a node reads, where not all; [size] bool."""
    shape = facts.shape(given(node, 0))
    if shape is None or node.op_type not in ("Slice", "Gather", "GatherND") or node.domain:
        return {}
    found: dict[int, Array] = {}
    if node.op_type != "Slice":
        numbers = constant(given(node, 1))
        axis = node.attributes.get_int("axis", 0) % len(shape)
        single = node.op_type == "Gather" or (numbers is not None and numbers.shape[-1] == 1)
        batched = node.attributes.get_int("batch_dims", 0)
        if numbers is not None and numbers.size <= shape[axis] and single and not batched:
            found[axis] = np.zeros(shape[axis], bool)
            found[axis][numbers % shape[axis]] = True
        return found
    for place, axis in enumerate(axes_of(node) or ()):
        bounds = bounds_of(node, place, shape[axis])
        if bounds is not None and bounds != (0, shape[axis]):
            mask = np.zeros(shape[axis], bool)
            mask[bounds[0] : bounds[1]] = True
            found[axis % len(shape)] = mask
    return found
