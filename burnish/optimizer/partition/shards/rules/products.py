"""Rules of matrix products: of rows and columns of their results, and of what they add up."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.partition.shards.layout import WHOLE, Layout, Parts
from burnish.optimizer.partition.shards.local import Local
from burnish.optimizer.partition.shards.rules.elementwise import Wants
from burnish.optimizer.partition.shards.site import Site

PLAIN = {"MatMul", "MatMulInteger", "FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
"""Products of matrices in the last two axes, broadcast over the others."""


def product(site: Site) -> Wants:
    """Rows go to the left factor, columns to the right one, other axes to both."""
    left, right, after = site.shape(0), site.shape(1), site.facts.shape(site.result)
    if after is None or min(len(left or after), len(right or after)) < 2:
        return None
    if _turned(site.node, "transBatchA") or _turned(site.node, "transBatchB"):
        return None
    rank = len(after)
    first: dict[int, Parts] = {}
    second: dict[int, Parts] = {}
    columns: Parts | None = None
    for axis, parts in site.layout.axes:
        if axis == rank - 1 and right is not None:
            columns = parts
            second[len(right) - (2 if _turned(site.node, "transB") else 1)] = parts
        elif axis == rank - 2 and left is not None:
            first[len(left) - (1 if _turned(site.node, "transA") else 2)] = parts
        else:
            for shape, found in ((left, first), (right, second)):
                if axis >= rank - 2 or shape is None:
                    return None
                at = axis - rank + len(shape)
                if at >= 0 and shape[at] != 1:
                    found[at] = parts
    others = [_along(site, place, columns) for place in range(2, len(site.node.inputs))]
    return [Layout.of(first), Layout.of(second), *others]


def _turned(node: ir.Node, name: str) -> bool:
    return bool(node.attributes.get_int(name, 0))


def _along(site: Site, place: int, columns: Parts | None) -> Layout:
    """Scales, zero points and biases of columns."""
    shape = site.shape(place)
    if columns is None or not shape or shape[-1] != columns.size:
        return WHOLE
    return Layout.of({len(shape) - 1: columns})


def gemm(site: Site) -> Wants:
    """As `product`, with a bias that is broadcast."""
    wants = product(site)
    if wants is None:
        return None
    shape = site.shape(2)
    if shape:
        offset = 2 - len(shape)
        wants[2] = Layout.of(
            {
                axis - offset: parts
                for axis, parts in site.layout.axes
                if axis >= offset and shape[axis - offset] != 1
            }
        )
    return wants


def packed(site: Site) -> Wants:
    """Of weights in blocks (`MatMulNBits`), columns are the first axis of all that stores them."""
    rank = len(site.facts.shape(site.result) or ())
    columns, rest = site.layout[rank - 1], dict(site.layout.axes)
    rest.pop(rank - 1, None)
    wants = [Layout.of(rest), *site.whole()[1:]]
    if columns is None:
        return wants
    for place in range(1, len(site.node.inputs)):
        shape = site.shape(place)
        if given(site.node, place) is None or not shape:
            continue
        if place == 4 or shape[0] % columns.size:  # indices of groups
            return None
        blocks = shape[0] // columns.size
        wants[place] = Layout.of({0: Parts.of(np.repeat(columns.mask, blocks, axis=1))})
    return wants


def packed_locally(local: Local) -> None:
    """The columns, and the rows, of the rank."""
    rank = len(local.facts.shape(local.before.outputs[0]) or ())
    columns = local.count(local.gives[0], rank - 1)
    if columns is not None:
        local.set("N", columns)
    rows = local.count(local.wants[0], rank - 1)
    if rows is not None:
        local.set("K", rows)


def einsum(site: Site) -> Wants:
    """By letters."""
    terms, _, result = _equation(site.node).partition("->")
    if "." in terms or not result:
        return None
    by_letter = {result[axis]: parts for axis, parts in site.layout.axes}
    return [
        Layout.of(
            {term.index(letter): parts for letter, parts in by_letter.items() if letter in term}
        )
        for term in terms.split(",")
    ]


def _equation(node: ir.Node) -> str:
    return node.attributes.get_string("equation", "").replace(" ", "")


def convolution(site: Site) -> Wants:
    """Channels of the result are those of the kernel."""
    if site.node.attributes.get_int("group", 1) != 1:
        return None
    if any(axis > 1 for axis, _ in site.layout.axes):
        return None
    channels, rows = site.layout[1], site.layout[0]
    kernel = Layout.of({0: channels}) if channels is not None else WHOLE
    return [Layout.of({0: rows}) if rows is not None else WHOLE, kernel, kernel][
        : len(site.node.inputs)
    ]


def summed(site: Site, parts: Parts, letter: str = "") -> Wants:
    """What a product adds up, in parts: its result is then a part of a sum on each rank.

    Args:
        site: of the product.
        parts: of what is added up.
        letter: of an Einsum, which may add up several axes.
    """
    if site.node.op_type == "Einsum":
        pair = _equation(site.node).partition("->")[0].split(",")
        return [Layout.of({term.index(letter): parts}) for term in pair]
    left, right = site.shape(0), site.shape(1)
    if left is None or right is None or min(len(left), len(right)) < 2:
        return None
    if site.node.op_type == "MatMulNBits":
        return _summed_blocks(site, parts)
    if site.node.op_type == "Gemm":
        wants = [
            Layout.of({0 if _turned(site.node, "transA") else 1: parts}),
            Layout.of({1 if _turned(site.node, "transB") else 0: parts}),
        ]
    else:
        turned = _turned(site.node, "transA"), _turned(site.node, "transB")
        wants = [
            Layout.of({len(left) - (2 if turned[0] else 1): parts}),
            Layout.of({len(right) - (1 if turned[1] else 2): parts}),
        ]
    return [*wants, *(WHOLE for _ in site.node.inputs[2:])]


def summed_letters(node: ir.Node) -> list[tuple[str, int]]:
    """What an Einsum of two adds up: letters, and their axes in the first of the two."""
    terms, _, result = _equation(node).partition("->")
    pair = terms.split(",")
    if len(pair) != 2 or "." in terms or not result:
        return []
    return [(item, axis) for axis, item in enumerate(pair[0]) if item in {*pair[1]} - {*result}]


def _summed_blocks(site: Site, parts: Parts) -> Wants:
    """Of weights in blocks, whole blocks of rows; scales must lie in rows of blocks."""
    size = site.node.attributes.get_int("block_size", 0)
    shape = site.shape(1)
    left = site.shape(0)
    if shape is None or left is None or not size or parts.size % size:
        return None
    mask = parts.mask.reshape(site.ranks, -1, size)
    blocks = np.asarray(mask.any(axis=2))
    if not (mask.all(axis=2) == blocks).all():
        site.units.add((size, parts.size))
        return None
    found = [Layout.of({len(left) - 1: parts}), Layout.of({1: Parts.of(blocks)})]
    for place in range(2, len(site.node.inputs)):
        if given(site.node, place) is None:
            found.append(WHOLE)
            continue
        own = site.shape(place)
        if place == 5 or (place == 2 and own == (shape[0],)):  # a bias, or one block a row
            found.append(WHOLE)
        elif own is not None and own[0] == shape[0] * shape[1]:
            flat = np.tile(blocks, (1, shape[0]))
            found.append(Layout.of({0: Parts.of(flat)}))
        elif own is not None and len(own) == 2 and own[1] == shape[1]:
            found.append(Layout.of({1: Parts.of(blocks)}))
        else:
            return None
    return found


def summed_locally(local: Local) -> None:
    """A bias is added by the first rank alone."""
    place = {"Gemm": 2, "MatMulNBits": 5}.get(local.node.op_type)
    if place is not None and local.rank and given(local.node, place) is not None:
        local.node.replace_input_with(place, None)
    if local.node.op_type == "MatMulNBits":
        packed_locally(local)
