"""A sandboxed child that stays for further orders: its start takes longer than most of them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.optimizer.processes import tree_memory
from burnish.optimizer.sandbox import Limits, Worker

IDLE_MEMORY = 1 << 28
"""Bytes past which a child does not stay while it has nothing to do."""


class Standing:
    """Hands orders to one child after another; the context ends the last one.

    A child is started by the first order. It stays until it fails, crashes, runs into a limit, or
    holds more than `IDLE_MEMORY` once its work is done; the next order then starts another. An
    order that fails in a child that has done others is given once more to a new one, so that none
    pays for what those before it have used or left behind.

    Args:
        target: `module:function` that answers each line on standard input with one event.
        limits: of each child; the wall time counts from its start.
    """

    def __init__(self, target: str, limits: Limits) -> None:
        self._target = target
        self._limits = limits
        self._worker: Worker | None = None

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The child's answer to a JSON-able order.

        Raises:
            BurnishError: as `sandbox.call` does.
        """
        new = self._worker is None
        if self._worker is None:
            self._worker = Worker(self._target, {}, self._limits)
        try:
            answer = self._worker.ask(order)
        except BurnishError:
            self.close()
            if new:
                raise
            return self.ask(order)
        if tree_memory(self._worker.pid) > IDLE_MEMORY:
            self.close()
        return answer

    def close(self) -> None:
        """End the child; a further order starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> Standing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
