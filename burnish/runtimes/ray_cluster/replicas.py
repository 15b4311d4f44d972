"""One model several times, on whatever nodes Ray finds room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import ray

from burnish.optimizer.errors import UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.ray_cluster.actors import (
    AHEAD,
    PATIENT,
    Crew,
    Member,
    Port,
    ended,
    future_of,
    in_order,
    resources,
    started,
)
from burnish.runtimes.ray_cluster.connection import Connection, admit
from burnish.runtimes.ray_cluster.files import shipped


class RayReplicas:
    """Actors with the same model; see `interface.Runtime`, and `runtimes.replicas`.

    Args:
        path: an .onnx file.
        connection: left when this is closed.
        replicas: how many.
        provider: of all.
        threads: of each, which asks Ray for as many processors; 0 for one.

    Raises:
        UsageError: the cluster has no room for them.
        BurnishError: the model cannot be opened.
    """

    def __init__(
        self, path: Path, connection: Connection, *, replicas: int, provider: str, threads: int
    ) -> None:
        if replicas < 1:
            raise UsageError("there is no replica to run", hint="replicas=2")
        needs = resources(provider, threads)
        gpus = {"GPU": replicas * needs["num_gpus"]} if "num_gpus" in needs else {}
        admit(replicas * needs["num_cpus"], f"{replicas} replicas", gpus)
        self._connection = connection
        self._shipment, self._depot = shipped(path)
        kind = ray.remote(Member).options(**needs, **PATIENT, scheduling_strategy="SPREAD")
        actors = [kind.remote(self._shipment, "", provider, threads) for _ in range(replicas)]
        self._inputs, self._outputs = started(actors)[0]
        self._crew, self._closed = Crew(actors), False

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order."""
        return self.submit(input_feed, output_names).result()

    def submit(
        self, input_feed: Mapping[str, Array], output_names: Sequence[str] | None = None
    ) -> Future[list[Array]]:
        """The outputs, once they are there, from the replica with the least to do."""
        names = list(output_names) if output_names else None
        return self._crew.submit("run", names, dict(input_feed))

    def map(
        self, feeds: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order; feeds are taken as there is room for them."""
        most = AHEAD * len(self._crew.actors)
        return in_order(lambda feed: self.submit(feed, output_names), feeds, most)

    def get_inputs(self) -> list[Port]:
        """The inputs, in order."""
        return self._inputs

    def get_outputs(self) -> list[Port]:
        """The outputs, in order."""
        return self._outputs

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`: of one replica, since they are alike."""
        found: list[tuple[str, int]] | None = future_of(
            self._crew.actors[0].fallen.remote()
        ).result()
        return found

    def close(self) -> None:
        """End the actors, and leave the cluster; a second call does nothing."""
        if not self._closed:
            self._closed = True
            ended(self._crew.actors)
            ray.kill(self._depot)
            self._connection.close()

    def __enter__(self) -> RayReplicas:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
