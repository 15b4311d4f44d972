"""From ONNX operators to terms: each value is evaluated once, in the order of the graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks import elementwise, makers, moves, reshape, sizes
from burnish.optimizer.analysis.masks.tensors import LONGEST, Tensor, Unsupported
from burnish.optimizer.analysis.masks.terms import Term, const, index, lookup, pick

OPERATORS: dict[str, Any] = {
    **elementwise.OPERATORS,
    **makers.OPERATORS,
    **moves.OPERATORS,
    **reshape.OPERATORS,
}

SIZES_ONLY = {"Shape", "Size"}
"""Operators that do not read the elements of what they are given."""

HEAVIEST = 20_000
"""Nodes of the largest term, written out, that is followed further."""

UNIFORM = 1 << 20
"""Elements of the largest constant that is searched for being one number everywhere."""


class Evaluator:
    """Tensors of terms by value; None for a value whose rank is not known."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Tensor | None] = {}

    def tensor(self, value: ir.Value) -> Tensor | None:
        """What a value holds."""
        stack = [value]
        while stack:
            current = stack[-1]
            if current in self._known:
                stack.pop()
                continue
            node = current.producer()
            inputs = [] if node is None or current.const_value is not None else node.inputs
            missing = [item for item in inputs if item is not None and item not in self._known]
            if missing:
                stack += missing
                continue
            self._known[current] = self._evaluate(current)
            stack.pop()
        return self._known[value]

    def _evaluate(self, value: ir.Value) -> Tensor | None:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return _constant(value, tensor)
        node = value.producer()
        leaf = _leaf(value, sizes.declared(value))
        if node is None or node.domain != "" or value is not node.outputs[0]:
            return leaf
        tensors = [self._known[item] for item in node.inputs if item is not None]
        if any(item is None for item in tensors):
            return leaf
        known = [item for item in tensors if item is not None]
        for operator in (OPERATORS.get(node.op_type), sizes.rule):
            try:
                if operator is sizes.rule:
                    return _leaf(value, None, operator(node, known))
                if operator is not None:
                    sources = () if node.op_type in SIZES_ONLY else tuple(known)
                    return _guarded(value, operator(node, known), sources)
            except (Unsupported, IndexError, ValueError, ZeroDivisionError):
                continue
        return leaf


def _leaf(
    value: ir.Value, shape: tuple[Term, ...] | None, known: Tensor | None = None
) -> Tensor | None:
    """A value that is looked up as it is."""
    dtype = value.dtype or (known.dtype if known is not None else ir.DataType.UNDEFINED)
    shape = known.shape if known is not None else shape
    if shape is None:
        return None
    places = [index(axis, extent) for axis, extent in enumerate(shape)]
    return Tensor(dtype, shape, lambda: lookup(value, places))


def _guarded(value: ir.Value, tensor: Tensor, sources: tuple[Tensor, ...]) -> Tensor:
    """The tensor, or a lookup of the value where its formula turns out not to be followed."""
    places = tensor.positions()

    def formula() -> Term:
        try:
            element = tensor.element
        except (Unsupported, IndexError, ZeroDivisionError):
            return lookup(value, places)
        return element if element.weight <= HEAVIEST else lookup(value, places)

    return dataclasses.replace(tensor, formula=formula, sources=sources)


def _constant(value: ir.Value, tensor: ir.TensorProtocol) -> Tensor | None:
    shape = tuple(int(extent) for extent in tensor.shape.numpy())
    sizes_of = tuple(map(const, shape))
    places = [index(axis, extent) for axis, extent in enumerate(sizes_of)]
    dtype = tensor.dtype
    if not (dtype.is_integer() or dtype.is_floating_point() or dtype is ir.DataType.BOOL):
        return None
    if tensor.size == 0:
        return Tensor(dtype, sizes_of, lambda: const(0))
    if tensor.size <= LONGEST and len(shape) <= 1:
        items = tuple(const(item) for item in _plain(tensor).reshape(-1).tolist())
        position = places[0] if places else const(0)
        return Tensor(dtype, sizes_of, lambda: pick(position, items))
    if tensor.size <= UNIFORM:
        numbers = _plain(tensor).reshape(-1)
        if (numbers == numbers[0]).all():
            return Tensor(dtype, sizes_of, lambda: const(numbers[0].item()))
    return Tensor(dtype, sizes_of, lambda: lookup(value, places))


def _plain(tensor: ir.TensorProtocol) -> np.ndarray[Any, Any]:
    """The numbers of a constant, in a type that Python knows."""
    numbers = tensor.numpy()
    if tensor.dtype is ir.DataType.BOOL or tensor.dtype.is_integer():
        return numbers
    return numbers.astype(np.float64)
