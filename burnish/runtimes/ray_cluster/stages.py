"""The stages of a plan as actors: what one gives goes to the next one's node, not by way of here.

Each request is sent to all stages at once, as references to what earlier stages will give. So
transfers go from node to node, and every stage is at work on another request.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import Overloaded, UnsupportedModel, UsageError
from burnish.runtimes import stages
from burnish.runtimes.arrays import Array
from burnish.runtimes.ray_cluster.actors import (
    PATIENT,
    WAITING,
    Member,
    Port,
    ended,
    future_of,
    in_order,
    resources,
    started,
)
from burnish.runtimes.ray_cluster.connection import WITHOUT_ROOM, Connection, admit, explained
from burnish.runtimes.ray_cluster.files import shipped

BETWEEN = 2
"""Feeds of `map` for each stage: one is computed while the next is handed over."""


@dataclass(frozen=True)
class Stage:
    """A row of the manifest: a model, its device, and by name what it takes and gives."""

    file: str
    device: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class RayPipeline:
    """Actors, one for each stage; see `interface.Runtime`, and `runtimes.pipeline`.

    Each has a bundle of one placement group. Where the cluster has a resource of the name of a
    stage's device in the plan (`gpu:0`, or `gpu`), the bundle asks for one of it.

    Args:
        folder: with the manifest and the stages.
        connection: left when this is closed.
        provider: of all stages.
        threads: of each, which asks Ray for as many processors; 0 for one.

    Raises:
        InvalidModel: the manifest is none of stages that can be run here.
        UsageError: the cluster has no room for them.
        BurnishError: a stage cannot be opened.
    """

    def __init__(
        self, folder: Path, connection: Connection, *, provider: str, threads: int
    ) -> None:
        self._connection = connection
        self._stages, self._inputs, self._outputs = read(folder)
        self._shipment, self._depot = shipped(folder)
        needs = resources(provider, threads)
        self._group = _placed(self._stages, needs)
        try:
            self._actors = [
                self._actor(index, needs, provider) for index in range(len(self._stages))
            ]
            ports = started(self._actors)
        except BaseException:
            remove_placement_group(self._group)
            raise
        self._ports = {port.name: port for both in ports for side in both for port in side}
        self._readers = Counter(name for stage in self._stages for name in stage.inputs)
        self._lock, self._busy, self._closed = threading.Lock(), 0, False

    def _actor(self, index: int, needs: Mapping[str, float], provider: str) -> Any:
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        kind = ray.remote(Member).options(**needs, **PATIENT, scheduling_strategy=place)
        threads = int(needs["num_cpus"])
        return kind.remote(self._shipment, self._stages[index].file, provider, threads)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order."""
        return self.submit(input_feed, output_names).result()

    def submit(
        self, input_feed: Mapping[str, Array], output_names: Sequence[str] | None = None
    ) -> Future[list[Array]]:
        """The outputs, once they are there.

        Raises:
            UsageError: an input is missing, or there is no such output.
            Overloaded: `WAITING` requests are under way.
        """
        names = self._known(output_names)
        values = self._given(input_feed)
        with self._lock:
            if self._busy >= WAITING:
                raise Overloaded(f"{self._busy} requests are under way", hint="later")
            self._busy += 1
        sent = self._sent(values)
        result = _all([sent[name] for name in names])
        result.add_done_callback(self._less)
        return result

    def _less(self, _: Future[list[Array]]) -> None:
        with self._lock:
            self._busy -= 1

    def _sent(self, values: dict[str, Any]) -> dict[str, Any]:
        """References to everything that the stages will give."""
        for name, readers in self._readers.items():
            if readers > 1 and name in values:  # sent to the object store once
                values[name] = ray.put(values[name])
        for stage, actor in zip(self._stages, self._actors, strict=True):
            given = [values[name] for name in stage.inputs]
            step = actor.step.options(num_returns=len(stage.outputs))
            found = step.remote(stage.inputs, stage.outputs, *given)
            found = [found] if len(stage.outputs) == 1 else found
            values |= zip(stage.outputs, found, strict=True)
        return values

    def map(
        self, feeds: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """The outputs for each feed, in order, with every stage at work on another feed."""
        most = BETWEEN * len(self._stages)
        return in_order(lambda feed: self.submit(feed, output_names), feeds, most)

    def _given(self, feed: Mapping[str, Array]) -> dict[str, Any]:
        if missing := [name for name in self._inputs if name not in feed]:
            raise UsageError(f"input {missing[0]} is missing", hint=", ".join(self._inputs))
        return {name: feed[name] for name in self._inputs}

    def _known(self, names: Sequence[str] | None) -> Sequence[str]:
        asked = list(names) if names else list(self._outputs)
        if unknown := [name for name in asked if name not in self._outputs]:
            raise UsageError(f"there is no output {unknown[0]}", hint=", ".join(self._outputs))
        return asked

    def get_inputs(self) -> list[Port]:
        """The inputs, in order."""
        return [self._ports[name] for name in self._inputs if name in self._ports]

    def get_outputs(self) -> list[Port]:
        """The outputs, in order."""
        return [self._ports[name] for name in self._outputs if name in self._ports]

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`: of all stages together."""
        counts: Counter[str] = Counter()
        for actor in self._actors:
            counts.update(dict(future_of(actor.fallen.remote()).result() or ()))
        return counts.most_common()

    def close(self) -> None:
        """End the actors, and leave the cluster; a second call does nothing."""
        if not self._closed:
            self._closed = True
            ended(self._actors)
            ray.kill(self._depot)
            remove_placement_group(self._group)
            self._connection.close()

    def __enter__(self) -> RayPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(folder: Path) -> tuple[list[Stage], tuple[str, ...], tuple[str, ...]]:
    """Stages, inputs and outputs by the manifest of a folder.

    Raises:
        InvalidModel: it names none. UnsupportedModel: a stage is spread over ranks.
    """
    told = told_in(folder / MANIFEST).get("stages")
    rows = [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []
    if any("ranks" in row for row in rows):
        told_so = "a stage in ranks, which share memory: they do not run on Ray"
        raise UnsupportedModel(told_so, place=MANIFEST, hint="burnish.load without ray")
    found = stages.read(folder)
    devices = [str(row.get("device")) for row in rows]
    pairs = zip(found.stages, devices, strict=True)
    placed = [Stage(item.path.name, name, item.inputs, item.outputs) for item, name in pairs]
    return placed, found.inputs, found.outputs


def _placed(placed: Sequence[Stage], needs: Mapping[str, float]) -> Any:
    """A placement group with a bundle for each stage."""
    known = ray.cluster_resources()
    bundles, devices = [], Counter[str]()
    for stage in placed:
        bundle = {"CPU": needs["num_cpus"]}
        if "num_gpus" in needs:
            bundle["GPU"] = needs["num_gpus"]
        kinds = (stage.device, stage.device.partition(":")[0])
        if (device := next((name for name in kinds if name in known), None)) is not None:
            bundle[device] = max(1.0, bundle.get(device, 0.0))
        devices.update({name: count for name, count in bundle.items() if name != "CPU"})
        bundles.append(bundle)
    admit(len(placed) * needs["num_cpus"], f"{len(placed)} stages", devices)
    group = placement_group(bundles, strategy="SPREAD")
    try:
        ray.get(group.ready(), timeout=WITHOUT_ROOM)
    except Exception as error:
        remove_placement_group(group)
        raise explained(error) from None
    return group


def _all(references: Sequence[Any]) -> Future[list[Array]]:
    """What Ray will know by several references, in their order."""
    found: Future[list[Array]] = Future()
    found.set_running_or_notify_cancel()
    parts = [future_of(reference) for reference in references]
    lock, left = threading.Lock(), [len(parts)]

    def done(part: Future[Any]) -> None:
        error = part.exception()
        with lock:
            left[0] -= 1
            last = left[0] == 0
            if found.done() or (error is None and not last):
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result([item.result() for item in parts])

    for part in parts:
        part.add_done_callback(done)
    return found
