"""Reshape and Flatten over sizes that are not known before a run."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.masks.functions import call, divided
from burnish.optimizer.analysis.masks.tensors import Tensor, Unsupported
from burnish.optimizer.analysis.masks.terms import ONE, ZERO, Term, add, index, is_const, times


def reshape(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Reshape."""
    source, asked = tensors[0], tensors[1].items
    keep = not node.attributes.get_int("allowzero", 0)
    target = [
        source.shape[place] if keep and is_const(item, 0) else item
        for place, item in enumerate(asked)
    ]
    return reshaped(source, target)


def flatten(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Flatten to two axes."""
    source, axis = tensors[0], node.attributes.get_int("axis", 1)
    if axis < 0:
        axis += source.rank
    return reshaped(source, [product(source.shape[:axis]), product(source.shape[axis:])])


def product(sizes: tuple[Term, ...] | list[Term]) -> Term:
    """The number of elements of a shape."""
    result = ONE
    for item in sizes:
        result = times(result, item)
    return result


def reshaped(source: Tensor, target: list[Term]) -> Tensor:
    """The same elements in order, in another shape (one size may be -1)."""
    old = [axis for axis, extent in enumerate(source.shape) if extent is not ONE]
    new = [axis for axis, extent in enumerate(target) if extent is not ONE]
    front = 0
    while front < min(len(old), len(new)) and source.shape[old[front]] is target[new[front]]:
        front += 1
    back = 0
    while back < min(len(old), len(new)) - front and (
        source.shape[old[-1 - back]] is target[new[-1 - back]]
    ):
        back += 1
    old_middle, new_middle = old[front : len(old) - back], new[front : len(new) - back]
    shape = list(target)
    _infer(shape, product([source.shape[axis] for axis in old_middle]), new_middle)
    sizes = tuple(shape)

    def formula() -> Term:
        places = [ZERO] * source.rank
        pairs = [*zip(old[:front], new[:front], strict=True)]
        pairs += zip(old[len(old) - back :], new[len(new) - back :], strict=True)
        for mine, theirs in pairs:
            places[mine] = index(theirs, sizes[theirs])
        flat = ZERO
        for axis in new_middle:
            flat = add(times(flat, sizes[axis]), index(axis, sizes[axis]))
        for axis in reversed(old_middle[1:]):
            places[axis] = call("mod", flat, source.shape[axis])
            flat = call("floor_div", flat, source.shape[axis])
        if old_middle:
            places[old_middle[0]] = flat
        return source.at(places)

    return Tensor(source.dtype, sizes, formula, source.assumed)


def _infer(shape: list[Term], elements: Term, middle: list[int]) -> None:
    """Put a size in the place of -1."""
    for axis in middle:
        if is_const(shape[axis], -1):
            others = product([shape[other] for other in middle if other != axis])
            size, rest = (elements, ZERO) if others is ONE else divided(elements, others)
            if rest is not ZERO:
                raise Unsupported("Reshape to a size that is not known")
            shape[axis] = size
    if not middle and any(is_const(item, -1) for item in shape):
        raise Unsupported("Reshape to a size that is not known")


OPERATORS = {"Reshape": reshape, "Flatten": flatten}
"""How the output of an operator follows from its inputs."""
