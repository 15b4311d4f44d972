"""How many of the elements of a weight become zero, and which may."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UsageError

GROUPED = re.compile(r"(\d{1,2}):(\d{1,2})")


CLOSE = 0.01
"""By how much a share may be missed, since each column or block has a whole number of zeros."""


@dataclass(frozen=True)
class Pattern:
    """A share of all elements, or of each group of so many rows.

    Attributes:
        share: of the elements that become zero, above 0 and below 1.
        kept, group: so many of each group of rows stay; 0 and 0 where elements may lie anywhere.
            Groups are of a column [k], which is what a product adds up over.
    """

    share: float
    kept: int = 0
    group: int = 0

    @classmethod
    def of(cls, text: str) -> Pattern:
        """The pattern that `0.5` or `2:4` stands for.

        Raises:
            UsageError: none.
        """
        if found := GROUPED.fullmatch(text.strip()):
            kept, group = (int(number) for number in found.groups())
            if 0 < kept < group:
                return cls(1.0 - kept / group, kept, group)
        else:
            try:
                share = float(text)
            except ValueError:
                share = 0.0
            if 0.0 < share < 1.0:
                return cls(share)
        raise UsageError(f"--sparsity {text} is no share of weights", hint="0.5 or 2:4")

    @property
    def two_of_four(self) -> bool:
        """Whether of each four rows at most two stay, as kernels for 2:4 want it."""
        if not self.group:
            return False
        touched = 4 // self.group if 4 % self.group == 0 else 1 if self.group % 4 == 0 else 2
        return self.kept * touched <= 2

    def why_not(self, rows: int, called: str = "rows") -> str:
        """Why a weight of so many rows cannot have it; empty where it can."""
        if self.group and rows % self.group:
            return f"its {rows} {called} are no groups of {self.group}"
        return ""

    def holds(self, matrix: Array) -> bool:
        """Whether a weight [k, n] has as many zeros already."""
        if self.group:
            groups = matrix.reshape(-1, self.group, matrix.shape[1])
            return bool((np.count_nonzero(groups, axis=1) <= self.kept).all())
        return float((matrix == 0).mean()) >= self.share - CLOSE

    def lowest(self, scores: Array) -> Array:
        """Which elements of [k, n] become zero: in each column, or group of it, the lowest."""
        if not self.group:
            count = round(self.share * len(scores))
            return _lowest(scores, count)
        shape = len(scores) // self.group, self.group, scores.shape[1]
        grouped = scores.reshape(shape).transpose(1, 0, 2).reshape(self.group, -1)
        found = _lowest(grouped, self.group - self.kept)
        parts = found.reshape(self.group, shape[0], shape[2]).transpose(1, 0, 2)
        return parts.reshape(scores.shape)

    def lowest_of_all(self, scores: Array) -> Array:
        """Likewise, but without groups the lowest of all columns together."""
        if self.group:
            return self.lowest(scores)
        flat = scores.reshape(-1, 1)
        return _lowest(flat, round(self.share * len(flat))).reshape(scores.shape)


def _lowest(scores: Array, count: int) -> Array:
    """Which are the so many lowest of each column; of equal ones the first."""
    order = np.argsort(scores, axis=0, kind="stable")[:count]
    found = np.zeros(scores.shape, bool)
    np.put_along_axis(found, order, True, axis=0)
    return found
