"""Constant tables recognised by what they hold: triangles, bands, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks.logic import less_or_equal
from burnish.optimizer.analysis.masks.rewrite import axes, substitute, topological
from burnish.optimizer.analysis.masks.terms import Term, add, const, minus, scaled, where

LARGEST = 1 << 26
"""Elements of the largest table that is read."""

MOST_RUNS = 4
"""Diagonal bands of one number each that a table is described by."""


def recognised(term: Term) -> Term:
    """The term with formulas in the place of the tables that hold them."""
    found = {}
    for item in topological(term):
        tensor = ir.convenience.get_const_tensor(item.value) if item.op == "lookup" else None
        if tensor is not None:
            formula = _formula(item, tensor)
            if formula is not None:
                found[item] = formula
    return substitute(term, found)


def _formula(item: Term, tensor: ir.TensorProtocol) -> Term | None:
    if tensor.size > LARGEST or any(
        part.op == "lookup" for part in topological(item) if part is not item
    ):
        return None
    table = tensor.numpy()
    if table.dtype.kind not in "biuf":
        table = table.astype(np.float32)
    places = [position for position in item.args if position.op != "const"]
    table = table[tuple(p.value if p.op == "const" else slice(None) for p in item.args)]
    if not places:
        return const(table.item())
    if len(places) == 1:
        return _count(table, places[0])
    return _bands(table, *places) if len(places) == 2 else None


def _count(table: np.ndarray[Any, Any], position: Term) -> Term | None:
    """A row of numbers in equal steps."""
    if table.dtype.kind == "b" or len(table) < 3:
        return None
    start, step = table[0].item(), (table[1] - table[0]).item()
    exact = table.dtype.kind in "iu" and (np.diff(table) == step).all()
    return add(const(start), scaled(position, step)) if exact else None


def _bands(table: np.ndarray[Any, Any], row: Term, column: Term) -> Term | None:
    """A table that is the same along its diagonals, in few bands."""
    if not {"query", "key"} & axes(row) or not {"query", "key"} & axes(column):
        return None
    if not np.array_equal(table[1:, 1:], table[:-1, :-1]):
        return None
    diagonals = np.concatenate([table[:0:-1, 0], table[0]])
    changes = np.flatnonzero(diagonals[1:] != diagonals[:-1])
    if len(changes) >= MOST_RUNS:
        return None
    distance, first = minus(column, row), 1 - len(table)
    result = const(diagonals[-1].item())
    for place in reversed(changes):
        inside = less_or_equal(distance, const(first + int(place)))
        result = where(inside, const(diagonals[place].item()), result)
    return result
