"""What is asked of workers: requests, and jobs of requests that travel together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.memory import Entry, Region

Answer = list[Array]


@dataclass(frozen=True)
class Port:
    """An input or output; see `InferenceSession.get_inputs`.

    Attributes:
        name: of the value.
        type: as ONNX Runtime writes it; empty where the runtime does not tell.
        shape: a number where a size is fixed, a name where it is not; None likewise.
    """

    name: str
    type: str = ""
    shape: Sequence[int | str | None] | None = None

    @staticmethod
    def of(told: Any) -> Port:
        """A port of a runtime, or what a child tells of one."""
        if isinstance(told, Mapping):
            return Port(told["name"], told["type"], told["shape"])
        return Port(told.name, getattr(told, "type", ""), getattr(told, "shape", None))


@dataclass(frozen=True)
class Step:
    """A run of one model, of those that a route takes.

    Attributes:
        model: the name that workers know it by.
        inputs, outputs: names of what it takes and gives.
    """

    model: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """From feeds to outputs by steps: one of a whole model, or the stages of a plan.

    A step may begin once its inputs are there; so steps that do not need each other run at once.
    """

    steps: tuple[Step, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def feed(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """A feed that has all inputs; raises UsageError where it has not, or has others."""
        names = [port.name for port in self.inputs]
        if missing := [name for name in names if name not in given]:
            raise UsageError(f"input {missing[0]} is missing", hint=", ".join(names))
        if unknown := [name for name in given if name not in names]:
            raise UsageError(f"there is no input {unknown[0]}", hint=", ".join(names))
        return {name: np.asarray(array) for name, array in given.items()}

    def asked(self, outputs: Sequence[str] | None) -> tuple[str, ...]:
        """The outputs asked for, all where none are named; raises UsageError for others."""
        names = [port.name for port in self.outputs]
        wanted = tuple(outputs) if outputs else tuple(names)
        if unknown := [name for name in wanted if name not in names]:
            raise UsageError(f"there is no output {unknown[0]}", hint=", ".join(names))
        return wanted

    def needed(self, outputs: Sequence[str]) -> dict[int, tuple[str, ...]]:
        """By step: what others or the caller take of it; steps that nobody needs are left out."""
        wanted, found = set(outputs), dict[int, tuple[str, ...]]()
        for index in reversed(range(len(self.steps))):
            step = self.steps[index]
            if taken := tuple(name for name in step.outputs if name in wanted):
                found[index] = taken
                wanted.update(step.inputs)
        return dict(sorted(found.items()))


@dataclass(eq=False)
class Request:
    """One feed, and the one answer that it gets.

    Attributes:
        route: the name of the way that it takes.
        feed: arrays by name; not to be changed before the answer is there.
        outputs: names of what is wanted.
        end: when its deadline is, by the monotonic clock; None where there is none.
        span: the seconds that it had.
        pinned: workers that have to do it, by model; others are free to.
        alone: whether it is joined with no others.
        owner: lives until it is answered.
    """

    route: str
    feed: dict[str, Array]
    outputs: tuple[str, ...]
    end: float | None = None
    span: float | None = None
    pinned: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    owner: object = None
    future: Future[Answer] = field(default_factory=Future)

    @property
    def weight(self) -> float:
        """How much work it is, beside others of its model: tokens, or numbers."""
        whole = [a.size for a in self.feed.values() if a.dtype.kind in "iu" and a.ndim > 1]
        return float(max(whole) if whole else sum(a.size for a in self.feed.values()) or 1)


@dataclass(eq=False)
class Task:
    """One step of one job, given to one worker.

    Attributes:
        number: of the order.
        model, outputs: what is run, and what is wanted of it.
        out: where its arrays will lie; None where they are handed on as they are.
        given: regions that it reads.
        begun: since when the worker does nothing else, by the monotonic clock.
    """

    number: int
    job: Job
    step: int
    model: str
    outputs: tuple[str, ...]
    out: Region | None = None
    given: tuple[Region, ...] = ()
    begun: float = 0.0


@dataclass(eq=False)
class Job:
    """Requests that travel together, and what is known for them so far.

    Attributes:
        number: earlier ones go first.
        weight: see `Request.weight`.
        needed: see `Route.needed`.
        values: what is known, by name: arrays, or where they lie.
        regions: where they lie, by number.
        done: steps whose outputs are there.
        running: those that workers have.
        lost: by step, how often a worker that computed it was lost.
        hedged: whether a step was given to a second worker while the first one had it.
    """

    number: int
    requests: list[Request]
    weight: float
    needed: dict[int, tuple[str, ...]]
    values: dict[str, Array | Entry] = field(default_factory=dict)
    regions: dict[int, Region] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    running: list[Task] = field(default_factory=list)
    lost: Counter[int] = field(default_factory=Counter)
    hedged: bool = False

    @property
    def answered(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(request.future.done() for request in self.requests)

    @property
    def span(self) -> float | None:
        """The most seconds that its requests had; None where one of them has no deadline."""
        spans = [request.span for request in self.requests]
        return None if None in spans else max(span for span in spans if span is not None)
