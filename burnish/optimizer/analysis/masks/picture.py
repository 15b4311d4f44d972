"""What a mask leaves of the scores, as a small picture: a row for a query, a column for a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks.clauses import KeyPadding, is_constant, tables
from burnish.optimizer.analysis.masks.mask import Mask
from burnish.optimizer.analysis.masks.numeric import Setting
from burnish.optimizer.analysis.masks.reach import exact
from burnish.optimizer.analysis.masks.terms import Term
from burnish.optimizer.contract import Array

CELLS = 32
"""Most rows and columns; longer sequences are sampled evenly."""


@dataclass(frozen=True)
class Picture:
    """Which keys queries see.

    Attributes:
        queries, keys: positions, of which the rows and columns are evenly spread samples.
        seen: truth values [rows, columns].
        padding: names of the inputs that hide more of the keys, by what they hold.
        biased: whether numbers are added to the scores of keys that are seen.
    """

    queries: int
    keys: int
    seen: Array
    padding: tuple[str, ...] = ()
    biased: bool = False

    def as_json(self) -> dict[str, Any]:
        """The picture as the report shows it: rows of 1 (seen) and 0 (hidden)."""
        rows = ["".join("01"[bool(cell)] for cell in row) for row in self.seen]
        return {
            "queries": self.queries,
            "keys": self.keys,
            "rows": rows,
            "padding": list(self.padding),
            "biased": self.biased,
        }


def banded(
    queries: int, keys: int, *, left: int | None = None, right: int | None = None
) -> Picture:
    """A picture of bounds on `key - query`, the last query standing at the last key."""
    rows, columns = _sampled(queries), _sampled(keys)
    distance = columns[None, :] - rows[:, None] - (keys - queries)
    seen = np.ones(distance.shape, bool)
    if left is not None:
        seen &= distance >= -left
    if right is not None:
        seen &= distance <= right
    return Picture(queries, keys, seen)


def picture(
    mask: Mask,
    queries: int,
    keys: int,
    sizes: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> Picture | None:
    """The picture of a mask; None where inputs say more of it than which keys are padding.

    Args:
        mask: in its normal form.
        queries: positions that it is drawn for.
        keys: likewise.
        sizes: by symbolic dimension.
        shapes: of the graph's values, by name.
    """
    setting = _setting(queries, keys, sizes, shapes)
    seen = np.ones((len(_sampled(queries)), len(_sampled(keys))), bool)
    padding: dict[str, None] = {}
    for clause in mask.clauses:
        term = exact(clause, mask)
        if not isinstance(term, Term) or term.op == "const":
            return None
        given = [value for value in tables(term) if not is_constant(value)]
        if given and not isinstance(clause, KeyPadding):
            return None
        if given:
            padding |= dict.fromkeys(value.name or "" for value in given)
            continue
        try:
            seen = seen & setting.compute(term).astype(bool)
        except (KeyError, IndexError, ValueError):  # a size that is not known, or does not fit
            return None
    return Picture(queries, keys, seen, tuple(padding), bool(mask.biases))


def _sampled(count: int) -> Array:
    return np.linspace(0, count - 1, min(count, CELLS)).round().astype(np.int64)


def _setting(
    queries: int, keys: int, sizes: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> Setting:
    first = np.zeros((1, 1), np.int64)
    positions: dict[int | str, Array] = dict.fromkeys(("batch", "head", "window", "row"), first)
    positions |= {"query": _sampled(queries)[:, None], "key": _sampled(keys)[None, :]}

    def measure(name: str | tuple[ir.Value, int]) -> int:
        return sizes[name] if isinstance(name, str) else shapes[name[0].name or ""][name[1]]

    def table(value: ir.Value) -> Array:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise KeyError(value.name)
        return tensor.numpy()

    return Setting(positions, measure, table)
