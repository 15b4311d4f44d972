"""Many batches of texts: futures, in order, as many at once as the decoder's stages keep busy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.generate.batch import Generated


class Many:
    """Runs batches, in threads of which there are no more than batches at once.

    Args:
        generate: a batch; see `Generator.generate`.
        together: batches at once.
    """

    def __init__(self, generate: Callable[..., Generated], together: int) -> None:
        self._generate, self._together = generate, together
        self._pool = ThreadPoolExecutor(together, thread_name_prefix="burnish-texts")

    def submit(self, *given: Any, **options: Any) -> Future[Generated]:
        """What comes of a batch, once it is there."""
        return self._pool.submit(self._generate, *given, **options)

    def map(
        self, batches: Iterable[str | Sequence[str]], options: dict[str, Any]
    ) -> Iterator[Generated]:
        """What comes of each batch of texts, in order; they are taken as there is room."""
        waiting, given = deque[Future[Generated]](), iter(batches)
        try:
            while True:
                while len(waiting) < 2 * self._together and (batch := next(given, None)):
                    waiting.append(self.submit(batch, **options))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def health(self) -> dict[str, Any]:
        """Whether a token comes: `healthy`, `seconds` (None where none did), and `error`."""
        start, error = time.monotonic(), ""
        try:
            self.submit(ids=[[1]], max_new_tokens=1).result()
        except BurnishError as failure:
            error = failure.message
        seconds = None if error else time.monotonic() - start
        return {"healthy": not error, "seconds": seconds, "error": error}

    def close(self) -> None:
        """Wait for what is being generated; what has not begun is cancelled."""
        self._pool.shutdown(cancel_futures=True)
