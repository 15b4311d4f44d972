"""Elements of outputs that mean nothing after a pass, and are not compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]


class Undefined(Protocol):
    """Elements of the output of that name that have a fixed value by definition."""

    @property
    def output(self) -> str: ...

    def cleared(self, array: Array, feed: Feeds) -> Array:
        """The output with that value in their place, whatever they held."""


@dataclass(frozen=True)
class Padding:
    """Rows of an output that a pass sets to zero since they belong to no real token.

    Attributes:
        output: name of the output.
        mask: name of the input [batch, sequence] that is 0 at padded tokens.
        batch, axis: axes of the output over sequences and over their positions; the same where one
            axis runs over all positions of all sequences.
    """

    output: str
    mask: str
    batch: int
    axis: int

    def cleared(self, array: Array, feed: Feeds) -> Array:
        """The output with those rows set to zero, whatever they held."""
        real = np.array(feed[self.mask], bool)
        if self.batch == self.axis:
            real = real.reshape(-1)
        elif self.batch > self.axis:
            real = real.T
        others = [axis for axis in range(array.ndim) if axis not in (self.batch, self.axis)]
        return np.where(np.expand_dims(real, others), array, np.zeros((), array.dtype))


@dataclass(frozen=True)
class CutTokens:
    """Logits of tokens that are in the vocabulary no more: minus infinity.

    Attributes:
        output: name of the output, whose last axis is the vocabulary.
        kept: the ids that are left.
    """

    output: str
    kept: tuple[int, ...]

    def cleared(self, array: Array, feed: Feeds) -> Array:
        """The output with minus infinity at the others, whatever they held."""
        kept = np.array(self.kept, np.int64)
        cleared = np.full_like(array, -np.inf)
        cleared[..., kept] = array[..., kept]
        return cleared


def cleared(outputs: Feeds, feed: Feeds, undefined: Sequence[Undefined]) -> dict[str, Array]:
    """Outputs without the elements that count for nothing, given the feed they came from."""
    found = dict(outputs)
    for item in undefined:
        if item.output in found:
            found[item.output] = item.cleared(found[item.output], feed)
    return found
