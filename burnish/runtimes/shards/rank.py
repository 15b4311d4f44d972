"""One rank: its parts one after the other, with a meeting behind each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.arrays import Array
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.shards.meeting import Board, Meeting
from burnish.runtimes.shards.plan import Part
from burnish.runtimes.workers.memory import Region
from burnish.runtimes.workers.sessions import ports_of


class Rank:
    """The sessions of a rank's parts.

    Args:
        parts: in order.
        meeting: where the others are met.
        provider: see `providers.PROVIDERS`.
        threads: of each session.

    Raises:
        UsageError, UnsupportedModel: see `onnxruntime.Session`.
    """

    def __init__(
        self, parts: Sequence[Part], meeting: Meeting, *, provider: str = "cpu", threads: int = 1
    ) -> None:
        self._parts, self.meeting = tuple(parts), meeting
        self._explain = PROVIDERS[provider].explain
        with contextlib.ExitStack() as opened:
            self._sessions = []
            for part in parts:
                session = PROVIDERS[provider].open(part.path, provider=provider, threads=threads)
                opened.callback(session.close)
                self._sessions.append(session)
            self._opened = opened.pop_all()
        self._last = {name: index for index, part in enumerate(parts) for name in part.inputs}

    @property
    def ports(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs of all parts, as far as their runtime tells of them."""
        told = [ports_of(session) for session in self._sessions]
        return {key: [port for ports in told for port in ports[key]] for key in told[0]}

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs asked for, as far as this rank has them, whole or in its part.

        Raises:
            WorkerFailed: another rank failed.
            BurnishError: this one did, and the others were told.
        """
        try:
            return self._run(dict(feed), outputs)
        except BaseException:
            self.meeting.abort()
            raise

    def _run(self, values: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        for index, (part, session) in enumerate(zip(self._parts, self._sessions, strict=True)):
            try:
                found = session.run(part.outputs, {name: values[name] for name in part.inputs})
            except BurnishError:
                raise
            except Exception as error:  # the bindings raise types of their own
                raise self._explain(error) from None
            values |= zip(part.outputs, found, strict=True)
            for name in part.reduce:
                values[name] = self.meeting.add(values[name])
            for name, (axis, sizes) in part.gather.items():
                values[name] = self.meeting.gather(values[name], axis, sizes)
            values = {
                name: value
                for name, value in values.items()
                if name in outputs or self._last.get(name, -1) > index
            }
        return {name: values[name] for name in outputs if name in values}

    def close(self) -> None:
        """Free the sessions; a second call does nothing."""
        self._opened.close()


class RankWork:
    """A rank in a process of its own; see `workers.child.Work`."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self.facts: dict[str, Any] = rank.ports

    def answer(
        self, order: dict[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], Mapping[str, Array]]:
        """Run once, or begin anew after an error."""
        if order.get("reset"):
            self._rank.meeting.reset()
            return {}, {}
        return {}, self._rank.run(arrays, order["outputs"])


def open_rank(argument: dict[str, Any], shared: Mapping[str, Region]) -> RankWork:
    """Begin a rank in a process; see `workers.child.Open`."""
    parts = [_part(row) for row in argument["parts"]]
    bells = [
        (shared[f"bell {rank} 0"].descriptor, shared[f"bell {rank} 1"].descriptor)
        for rank in range(argument["ranks"])
    ]
    board = Board(argument["rank"], shared["board"], bells)
    rank = Rank(parts, board, provider=argument["provider"], threads=argument["threads"])
    return RankWork(rank)


def part_as_json(part: Part) -> dict[str, Any]:
    """A part as it crosses the process boundary."""
    return asdict(part) | {"path": str(part.path)}


def _part(row: Mapping[str, Any]) -> Part:
    gather = {name: (axis, tuple(sizes)) for name, (axis, sizes) in row["gather"].items()}
    inputs, outputs, reduce = (tuple(row[key]) for key in ("inputs", "outputs", "reduce"))
    return Part(Path(row["path"]), inputs, outputs, reduce, gather)
