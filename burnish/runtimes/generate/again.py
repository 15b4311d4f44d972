"""Texts that are begun once more where a worker was lost with their caches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from burnish.optimizer.errors import WorkerFailed
from burnish.runtimes.generate.batch import Batch

TRIES = 2


class Again:
    """A batch that is generated again where it has to be; the same tokens come.

    Args:
        make: the batch, from its beginning.

    Attributes:
        batch: the last one.
    """

    def __init__(self, make: Callable[[], Batch]) -> None:
        self._make = make
        self.batch = make()

    def pieces(self) -> Iterator[tuple[int, str]]:
        """See `Batch.pieces`; what has been told is not told again."""
        told = Counter[int]()
        for tries in reversed(range(TRIES)):
            seen = Counter[int]()
            try:
                for row, piece in self.batch.pieces():
                    seen[row] += len(piece)
                    if (new := seen[row] - told[row]) > 0:
                        told[row] = seen[row]
                        yield row, piece[-new:]
                return
            except WorkerFailed:
                if not tries:
                    raise
                self.batch = self._make()
