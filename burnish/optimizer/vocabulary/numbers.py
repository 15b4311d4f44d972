"""Old ids and new ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from burnish.optimizer.contract import Array


@dataclass(frozen=True)
class Numbers:
    """The ids that are kept, numbered anew in their order.

    Attributes:
        kept: old ids, ascending; an id's place is the new one.
    """

    kept: tuple[int, ...]

    @cached_property
    def new(self) -> dict[int, int]:
        """New ids by old ones."""
        return {old: new for new, old in enumerate(self.kept)}

    @cached_property
    def old(self) -> Array:
        """Old ids by new ones, int64."""
        return np.array(self.kept, np.int64)

    @property
    def digest(self) -> str:
        """A fingerprint of the kept ids."""
        return hashlib.sha256(self.old.tobytes()).hexdigest()[:16]

    def below(self, old: int, *, itself: bool = False) -> int:
        """How many of the kept ids are below an old one, or not above it."""
        return int(np.searchsorted(self.old, old, "right" if itself else "left"))

    def rows(self, size: int) -> Array:
        """The kept ids among the first so many, int64."""
        return self.old[: self.below(size)]
