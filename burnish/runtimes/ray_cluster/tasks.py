"""Functions as tasks of a cluster: where there is memory for them, and again where a node dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from burnish.optimizer.errors import UsageError
from burnish.runtimes.ray_cluster.connection import WITHOUT_ROOM, Connection, explained

RETRIES = 3
"""How often Ray does a task again whose worker or node has died."""


class Tasks:
    """A cluster that does work, until `close`.

    Args:
        address: see `Connection`.

    Attributes:
        places: processors of all nodes.
        memory: bytes of all nodes that tasks may have.
        largest: bytes of the node that has most.
    """

    def __init__(self, address: str) -> None:
        self._connection = Connection(address)
        self._nodes = [row for row in ray.nodes() if row["Alive"] and row["Resources"].get("CPU")]
        memory = [int(row["Resources"].get("memory", 0)) for row in self._nodes]
        self.places = int(sum(row["Resources"]["CPU"] for row in self._nodes))
        self.memory, self.largest = sum(memory), max(memory, default=0)
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        if not self.places:
            self.close()
            raise UsageError("the cluster has no node with a processor", hint="ray start")

    def on_every_node(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What a function gives on each node, by the node's address."""
        asked = {
            f"{row['NodeManagerAddress']} ({row['NodeID'][:8]})": ray.remote(function)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(row["NodeID"], soft=False),
            )
            .remote(*arguments)
            for row in self._nodes
        }
        try:
            return {name: ray.get(found, timeout=WITHOUT_ROOM) for name, found in asked.items()}
        except Exception as error:
            raise explained(error) from None

    def call(self, function: Callable[..., Any], *arguments: Any, memory: int) -> Any:
        """What a function gives on a node with so many bytes free; from any thread.

        Raises:
            BurnishError: the function's, or that it was ended.
        """
        task = ray.remote(function).options(num_cpus=1, memory=memory, max_retries=RETRIES)
        with self._lock:
            found = task.remote(*arguments)
            self._running.add(found)
        try:
            return ray.get(found)
        except Exception as error:
            raise explained(error) from None
        finally:
            with self._lock:
                self._running.discard(found)

    def stop(self) -> None:
        """Interrupt all that runs."""
        with self._lock:
            for reference in self._running:
                with contextlib.suppress(Exception):  # it may be done, or its node gone
                    ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster."""
        self.stop()
        self._connection.close()
