"""Many requests over a cluster by Ray Data: actors hold the artifact, and results keep their order.

A row is what is answered together. Rows are bytes on their way, so that arrays may be of any size.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import data

from burnish.optimizer.artifact import graph_of
from burnish.optimizer.errors import KINDS, BurnishError
from burnish.runtimes.arrays import Array
from burnish.runtimes.ray_cluster.actors import resources
from burnish.runtimes.ray_cluster.connection import Connection, admit, explained
from burnish.runtimes.ray_cluster.files import Shipment, shipped
from burnish.runtimes.ray_cluster.opening import Opening
from burnish.runtimes.tasks.ports import Opened

INDEX, GIVEN, FOUND, ERROR = "index", "given", "found", "error"
"""Columns."""

Row = dict[str, Any]


class Texts:
    """An actor of Ray Data that answers requests; see `runtimes.requests`."""

    def __init__(self, opening: Opening) -> None:
        self._answerer, self._copy = opening.opened()

    def __call__(self, row: Row) -> Row:
        """The answers to the requests of a row, each by itself."""
        try:
            asked = self._answerer.read(json.loads(row[GIVEN]))
            (answer,) = self._answerer.answer([asked])
        except BurnishError as error:
            answer = error
        if isinstance(answer, BurnishError):
            return _failed(row, answer)
        return {INDEX: row[INDEX], FOUND: json.dumps(answer).encode(), ERROR: ""}


class Feeds:
    """An actor of Ray Data that runs a model."""

    def __init__(self, shipment: Shipment, provider: str, threads: int) -> None:
        from burnish.runtimes.providers import PROVIDERS

        self._copy = shipment.here()
        path = Path(graph_of(str(self._copy.path)))
        session = PROVIDERS[provider].open(path, provider=provider, threads=threads or 1)
        self._opened = Opened(session, provider)

    def __call__(self, row: Row) -> Row:
        """The outputs for the feed of a row."""
        try:
            found = self._opened.run(self._opened.outputs, unpacked(row[GIVEN]))
        except BurnishError as error:
            return _failed(row, error)
        return {INDEX: row[INDEX], FOUND: packed(found), ERROR: ""}


def answered(
    path: Path,
    requests: Sequence[dict[str, Any]],
    *,
    address: str,
    provider: str,
    threads: int,
    task: str | None,
) -> list[dict[str, Any]]:
    """Answers of an artifact to requests, in order.

    Args:
        path: the artifact.
        requests: see `runtimes.requests`; each is answered by itself.
        address: see `Connection`.
        provider: of each actor.
        threads: likewise.
        task: see `requests.open_answerer`.

    Raises:
        BurnishError: of the first request that has failed.
    """
    with Connection(address):
        shipment, depot = shipped(path)
        rows = [json.dumps(request).encode() for request in requests]
        opening = Opening(shipment, provider, threads, task)
        needs = resources(provider, threads)
        found = [json.loads(item) for item in _mapped(Texts, (opening,), rows, needs)]
        ray.kill(depot)
    return found


def run(
    path: Path,
    feeds: Sequence[dict[str, Array]],
    *,
    address: str,
    provider: str,
    threads: int,
) -> Iterator[dict[str, Array]]:
    """Outputs of a model for feeds, in order; see `answered`."""
    with Connection(address):
        shipment, depot = shipped(path)
        rows = [packed(feed) for feed in feeds]
        needs = resources(provider, threads)
        yield from map(unpacked, _mapped(Feeds, (shipment, provider, threads), rows, needs))
        ray.kill(depot)


def _mapped(
    kind: type, arguments: tuple[Any, ...], rows: Sequence[bytes], needs: dict[str, float]
) -> list[bytes]:
    """What actors make of rows, in their order."""
    admit(needs["num_cpus"], "an actor")
    room = int(ray.cluster_resources().get("CPU", 1.0) // needs["num_cpus"])
    actors = max(1, min(len(rows), room))
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    given = [{INDEX: index, GIVEN: row} for index, row in enumerate(rows)]
    blocks = min(len(rows), 4 * actors)
    pieces = data.from_items(given, override_num_blocks=blocks).map(
        kind,
        fn_constructor_args=arguments,
        compute=data.ActorPoolStrategy(size=actors),
        **needs,
    )
    try:
        found = sorted(pieces.iter_rows(), key=lambda row: row[INDEX])
    except Exception as error:
        raise explained(error) from None
    for row in found:
        if row[ERROR]:
            raise _revived(json.loads(row[ERROR]))
    return [row[FOUND] for row in found]


def _failed(row: Row, error: BurnishError) -> Row:
    told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return {INDEX: row[INDEX], FOUND: b"", ERROR: json.dumps(told | {"place": error.place})}


def _revived(told: dict[str, str]) -> BurnishError:
    kind = KINDS.get(told["kind"], BurnishError)
    return kind(told["message"], place=told["place"], hint=told["hint"])


def packed(arrays: dict[str, Array]) -> bytes:
    """Named arrays as bytes; names may hold any character."""
    stream = io.BytesIO()
    numbered = {f"array{index}": array for index, array in enumerate(arrays.values())}
    np.savez(stream, names=np.array(json.dumps(list(arrays))), **numbered)  # type: ignore[arg-type]
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, Array]:
    """Named arrays out of them; what is pickled is refused."""
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        names = json.loads(str(found["names"]))
        return {name: found[f"array{index}"] for index, name in enumerate(names)}
