"""Discrete Fourier transforms as matrices, computed in float64 from angles below a full turn.

Of `exp(-2 pi i j k / n)` the product `j k` is taken modulo n first: the angle of a float32 kernel
that does not loses digits as `j k` grows, which at n = 768 costs 1e-4 of the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.contract import Array


@dataclass(frozen=True)
class Matrix:
    """A transform from `present` numbers to `given`, as a pair of matrices [given, present].

    With `e = cosine + i sine` a complex operand `a + i b` gives `e (a + i b)`. An inverse transform
    of one side gives real numbers, `cosine a - sine b`: each frequency stands for its mirror too.

    Attributes:
        length: n.
        present: elements of the operand; more than the transform reads, or fewer (zeros follow).
        given: elements of the result.
        inverse: with the other sign, and divided by n.
        onesided: of a real operand the first n // 2 + 1 frequencies; from these, when inverse.
    """

    length: int
    present: int
    given: int
    inverse: bool = False
    onesided: bool = False

    @property
    def cosine(self) -> Array:
        """The real part, float32 [given, present]."""
        return self._weighted(np.cos(self._angles()))

    @property
    def sine(self) -> Array:
        """The imaginary part, float32 [given, present]."""
        return self._weighted(np.sin(self._angles()) * (1.0 if self.inverse else -1.0))

    def _angles(self) -> Array:
        rows = np.arange(self.given, dtype=np.int64)[:, None]
        turns = rows * np.arange(self.present, dtype=np.int64) % self.length
        return turns * (2 * math.pi / self.length)

    def _weighted(self, elements: Array) -> Array:
        # Rounded, so that a cosine of a quarter turn is zero and not 6e-17, nor a zero negative.
        return (elements.round(15) * self._weights() + 0.0).astype(np.float32)

    def _weights(self) -> Array:
        """What each element of the operand counts."""
        read = self.length
        weights = np.ones(self.present)
        if self.inverse:
            weights /= self.length
        if self.inverse and self.onesided:
            read = self.length // 2 + 1
            mirrored = slice(1, (self.length + 1) // 2)
            weights[mirrored] *= 2
        weights[read:] = 0.0
        return weights


def factors(length: int) -> tuple[int, int] | None:
    """The two factors of a length that are nearest to each other; None where it is prime."""
    first = next((n for n in range(math.isqrt(length), 1, -1) if length % n == 0), None)
    return (length // first, first) if first is not None else None
