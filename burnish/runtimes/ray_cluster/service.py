"""What Ray Serve starts as replicas: an artifact that answers requests, in Serve's batches."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from burnish.optimizer.errors import BurnishError, ResourceLimit, UsageError, WorkerFailed
from burnish.runtimes.ray_cluster.loopback import serve_on_loopback
from burnish.runtimes.ray_cluster.opening import Opening
from burnish.runtimes.requests.prompts import PromptAnswers

FRESH = 10.0
"""Seconds for which an answer to a request shows as much as a made-up one would."""

STUCK = 600.0
"""Seconds after which a batch that is not answered counts as hanging."""

Reply = dict[str, Any]
"""`status` as HTTP has it, and `body`."""


class Service:
    """A replica.

    Args:
        opening: see there.
        batch: most requests that are answered together.
        wait: seconds that the first of them waits for others.
    """

    def __init__(self, opening: Opening, batch: int, wait: float) -> None:
        serve_on_loopback()
        self._answerer, self._copy = opening.opened()
        # One thread computes: the runtime has its own. Stages have a batch each, or so.
        places = 2 if opening.staged else 1
        self._pool = ThreadPoolExecutor(places)
        self._together = serve.batch(
            max_batch_size=batch, batch_wait_timeout_s=wait, max_concurrent_batches=places
        )(self._batch)
        self._answered, self._begun = 0.0, 0.0

    async def answer(self, request: Mapping[str, Any]) -> Reply:
        """The reply to a request; errors are replies too."""
        try:
            asked = self._answerer.read(request)
        except Exception as error:  # what a library makes of it belongs to the request
            return failed(error)
        reply: Reply = await self._together(asked)
        return reply

    async def _batch(self, requests: list[Any]) -> list[Reply]:
        self._begun = time.monotonic()
        try:
            found = await self._thread(self._answerer.answer, requests)
        except Exception as error:
            return [failed(error)] * len(requests)
        finally:
            self._begun = 0.0
        self._answered = time.monotonic()
        return [
            failed(item) if isinstance(item, BurnishError) else {"status": 200, "body": item}
            for item in found
        ]

    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """Replies one by one: pieces of a text, and `done` at the end."""
        try:
            if not isinstance(self._answerer, PromptAnswers):
                raise UsageError("it writes no text that could be streamed")
            pieces = iter(self._answerer.stream(self._answerer.read(request)))
            while (piece := await self._thread(functools.partial(next, pieces, None))) is not None:
                yield {"status": 200, "body": {"text": piece}}
        except Exception as error:
            yield failed(error)
            return
        self._answered = time.monotonic()
        yield {"status": 200, "body": {"done": True}}

    async def _thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def about(self) -> dict[str, Any]:
        """What it takes and gives."""
        return {"task": self._answerer.task, **self._answerer.about()}

    async def probe(self) -> float:
        """Seconds that a real inference takes."""
        start = time.monotonic()
        await self._thread(self._answerer.probe)
        return time.monotonic() - start

    async def check_health(self) -> None:
        """Serve replaces a replica whose check fails: a real inference, unless there just was one.

        One that computes a batch is healthy as long as that is not stuck.
        """
        now = time.monotonic()
        if self._begun:
            if now - self._begun > STUCK:
                raise RuntimeError(f"a batch has not been answered in {STUCK:g} seconds")
        elif now - self._answered > FRESH:
            await self.probe()
            self._answered = now

    def __del__(self) -> None:
        """End stages, and let go of the files; Serve calls this when it ends a replica."""
        for name in ("_answerer", "_copy"):
            if (held := getattr(self, name, None)) is not None:
                held.close()


def failed(error: Exception) -> Reply:
    """The reply that says what is wrong, in one line."""
    if isinstance(error, BurnishError):
        status = 503 if isinstance(error, ResourceLimit | WorkerFailed) else 400
        return {"status": status, "body": {"error": said(error)}}
    return {"status": 500, "body": {"error": f"internal error: {type(error).__name__}"}}


def said(error: BurnishError) -> str:
    """An error's line without its file."""
    file = error.file or "request"
    return error.line(file).removeprefix(f"error: {file}: ")
