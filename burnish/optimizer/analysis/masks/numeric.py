"""Terms as arrays, for given sizes and values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks.functions import FUNCTIONS
from burnish.optimizer.analysis.masks.rewrite import topological
from burnish.optimizer.analysis.masks.terms import Term
from burnish.optimizer.contract import Array


@dataclass(frozen=True)
class Setting:
    """Numbers for what is symbolic.

    Attributes:
        positions: arrays by axis, which broadcast against each other.
        measure: sizes by what names them.
        tables: arrays of the values of the graph that are looked up.
    """

    positions: Mapping[int | str, Array]
    measure: Callable[[str | tuple[ir.Value, int]], int]
    tables: Callable[[ir.Value], Array]

    def compute(self, term: Term) -> Array:
        """The term at every position."""
        done: dict[Term, Array] = {}
        with np.errstate(all="ignore"):
            for item in topological(term):
                done[item] = self._one(item, [done[part] for part in item.args])
        return done[term]

    def _one(self, term: Term, args: list[Array]) -> Array:
        op = term.op
        if op == "const":
            return np.asarray(term.value)
        if op == "index":
            return self.positions[term.value]
        if op == "size":
            return np.asarray(self.measure(term.value))
        if op == "lookup":
            return _looked_up(self.tables(term.value), args)
        if op == "sum":
            return _sum(term, args)
        if op == "pick":
            return np.choose(args[0], args[1:])
        if op in ("and", "or", "product"):
            together = {"and": np.logical_and, "or": np.logical_or, "product": np.multiply}[op]
            return np.asarray(functools.reduce(together, args))
        functions: dict[str, Callable[..., Array] | None] = {
            "where": np.where,
            "not": np.logical_not,
            "at_most": lambda item: item <= 0,
            "below": lambda item: item < 0,
            "zero": lambda item: item == 0,
            "call": FUNCTIONS.get(term.value) if op == "call" else None,
        }
        function = functions[op]
        assert function is not None
        return np.asarray(function(*args))


def _sum(term: Term, args: list[Array]) -> Array:
    coefficients, constant = term.value
    result = np.asarray(constant)
    for factor, item in zip(coefficients, args, strict=True):
        result = result + (item if factor == 1 else item * factor)
    return np.asarray(result)


def _looked_up(table: Array, indices: list[Array]) -> Array:
    """Elements at indices; where an index is outside, the nearest (a `where` passes over it)."""
    if not indices:
        return table
    places = []
    for axis, item in enumerate(indices):
        whole = np.asarray(item).astype(np.int64)
        length = table.shape[axis]
        places.append(np.clip(np.where(whole < 0, whole + length, whole), 0, max(0, length - 1)))
    return np.asarray(table[tuple(np.broadcast_arrays(*places))])
