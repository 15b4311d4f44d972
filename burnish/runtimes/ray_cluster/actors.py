"""Actors that hold an opened artifact, and requests to whichever has the least to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray

from burnish.optimizer.errors import BurnishError, Overloaded
from burnish.runtimes.arrays import Array
from burnish.runtimes.interface import Runtime
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.ray_cluster.connection import WITHOUT_ROOM, explained
from burnish.runtimes.ray_cluster.files import Shipment

AHEAD = 4
"""Feeds for each actor that `map` takes before the oldest result is."""

WAITING = 64
"""Requests for each actor that may be under way; more are refused."""

RETRIES = 30
"""How often Ray sends a request again whose actor has died. It counts each time that it does not
reach a node, of which it is sure after seconds only that it is gone (3 were used up in 10)."""

PATIENT = {"max_restarts": -1, "max_task_retries": RETRIES}
"""An actor is always started again; a request that ends it each time is given up."""


@dataclass(frozen=True)
class Port:
    """An input or output, as `InferenceSession` tells it."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def ports_of(found: Iterable[Any]) -> list[Port]:
    """Ports of a session, which themselves cannot leave their process."""
    return [
        Port(item.name, getattr(item, "type", ""), tuple(getattr(item, "shape", None) or ()))
        for item in found
    ]


def resources(provider: str, threads: int) -> dict[str, float]:
    """What an actor asks Ray for."""
    found = {"num_cpus": float(threads or 1)}
    return found | {"num_gpus": 1.0} if provider in ("cuda", "tensorrt") else found


class Member:
    """An actor: one model of an artifact, opened on whatever node that is.

    Args:
        shipment: the artifact.
        file: name of the model in it; empty for the artifact's own.
        provider, threads: see `onnxruntime.Session`.
    """

    def __init__(self, shipment: Shipment, file: str, provider: str, threads: int) -> None:
        self._failure: Exception | None = None
        try:
            self._copy = shipment.here()
            path = self._copy.folder / file if file else self._copy.path
            opened = PROVIDERS[provider].open(path, provider=provider, threads=threads or 1)
            self._session: Runtime = opened
        except Exception as error:  # is told by `ports`: Ray would tell of a death
            self._failure = error

    def ports(self) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs; raises what has kept the model from being opened."""
        if self._failure is not None:
            raise self._failure
        return ports_of(self._session.get_inputs()), ports_of(self._session.get_outputs())

    def node(self) -> str:
        """The node that it is on."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    def fallen(self) -> list[tuple[str, int]] | None:
        return self._session.fallen()

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Array]) -> list[Array]:
        return self._session.run(names, feed)

    def step(self, inputs: Sequence[str], outputs: Sequence[str], *values: Array) -> Any:
        """A stage: values by the names of its inputs; one output by itself, or several."""
        found = self._session.run(list(outputs), dict(zip(inputs, values, strict=True)))
        return found[0] if len(found) == 1 else found

    def close(self) -> None:
        for held in ("_session", "_copy"):
            if hasattr(self, held):
                getattr(self, held).close()


def started(actors: Sequence[Any]) -> list[tuple[list[Port], list[Port]]]:
    """The ports of actors, once all have opened their models.

    Raises:
        BurnishError: one cannot, or there is no room for it. All are ended then.
    """
    try:
        ports: list[Any] = ray.get([actor.ports.remote() for actor in actors], timeout=WITHOUT_ROOM)
    except Exception as error:
        ended(actors)
        raise explained(error) from None
    return ports


def ended(actors: Sequence[Any]) -> None:
    """End actors: those that answer let go of their files first."""
    ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=5.0)
    for actor in actors:
        ray.kill(actor)


def future_of(reference: Any, made: Callable[[Any], Any] = lambda value: value) -> Future[Any]:
    """What Ray will know by a reference, as a future whose errors are the node's own.

    Args:
        reference: is kept until the result is there.
        made: of the value.
    """
    found: Future[Any] = Future()

    def done(other: Future[Any], _: Any = reference) -> None:
        if (error := other.exception()) is not None:
            found.set_exception(explained(error))
        else:
            found.set_result(made(other.result()))

    found.set_running_or_notify_cancel()
    reference.future().add_done_callback(done)
    return found


class Crew:
    """Actors that are alike: each request goes to the one with the fewest under way.

    Args:
        actors: at least one.
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = tuple(actors)
        self._busy = [0] * len(actors)
        self._lock = threading.Lock()

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Have a method of some actor called.

        Raises:
            Overloaded: `WAITING` requests are under way for each of them.
        """
        with self._lock:
            index = min(range(len(self._busy)), key=self._busy.__getitem__)
            if self._busy[index] >= WAITING:
                raise Overloaded(
                    f"{sum(self._busy)} requests are under way", hint="later, or more replicas"
                )
            self._busy[index] += 1
        try:
            reference = getattr(self.actors[index], method).remote(*arguments)
        except BaseException as error:
            self._less(index)
            raise explained(error) from None
        future = future_of(reference)
        future.add_done_callback(lambda _: self._less(index))
        return future

    def _less(self, index: int) -> None:
        with self._lock:
            self._busy[index] -= 1


def in_order(
    submit: Callable[[Any], Future[list[Array]]], feeds: Iterable[Any], most: int
) -> Iterator[list[Array]]:
    """The results for feeds, in order, with so many under way at most.

    An error of a feed is raised in its turn, and ends the work.
    """
    waiting: deque[Future[list[Array]]] = deque()
    given = iter(feeds)
    for feed in given:
        waiting.append(submitted(submit, feed))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def submitted(submit: Callable[[Any], Future[list[Array]]], feed: Any) -> Future[list[Array]]:
    """A request, or the future of what is wrong with it."""
    try:
        return submit(feed)
    except BurnishError as error:
        failed: Future[list[Array]] = Future()
        failed.set_exception(error)
        return failed
