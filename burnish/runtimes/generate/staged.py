"""A decoder cut into stages: caches stay with their stage, from step to step.

What travels are the tokens and the values between stages. A stage whose process is lost is started
anew, without the caches of the texts that were on their way: those are begun again (`again`).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from burnish.optimizer.errors import UsageError, WorkerFailed
from burnish.runtimes import stages
from burnish.runtimes.arrays import Array
from burnish.runtimes.resident import Port, Resident
from burnish.runtimes.stages import Stage
from burnish.runtimes.workers.opening import PROCESSES, Opening
from burnish.runtimes.workers.process import Process
from burnish.runtimes.workers.residents import TARGET, Residents, port_of

_numbers = itertools.count()


class Asked(Protocol):
    """Answers orders; see `workers.residents`.

    Attributes:
        facts: of the work.
        life: is counted up when a process is started anew, without what the one before held;
            orders name the lives that what they speak of is of.
    """

    facts: dict[str, Any]

    @property
    def pid(self) -> int | None: ...

    @property
    def life(self) -> int: ...

    def ask(
        self, order: Mapping[str, Any], arrays: Mapping[str, Array], lives: set[int]
    ) -> Mapping[str, Array]: ...

    def close(self) -> None: ...


class _InThread(Residents):
    """Works in the caller's thread."""

    pid, life = None, 0

    def ask(
        self, order: Mapping[str, Any], arrays: Mapping[str, Array], lives: set[int]
    ) -> Mapping[str, Array]:
        return self.answer(dict(order), arrays)[1]


class _InProcess:
    """Works in a process, a new one once it is lost."""

    def __init__(self, argument: dict[str, Any], name: str) -> None:
        self._argument, self._name, self._life = argument, name, 0
        self._lock = threading.Lock()
        self._process = Process(TARGET, argument, name=name)
        self.facts = self._process.ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def life(self) -> int:
        return self._running()[1]

    def _running(self) -> tuple[Process, int]:
        """A process that was not seen to end, and which one it is."""
        with self._lock:
            if self._process.is_ended:
                self._life += 1
                self._process = Process(TARGET, self._argument, name=self._name)
                self._process.ready()
            return self._process, self._life

    def ask(
        self, order: Mapping[str, Any], arrays: Mapping[str, Array], lives: set[int]
    ) -> Mapping[str, Array]:
        process, life = self._running()
        if lives - {life}:
            raise WorkerFailed(f"{self._name} was lost, and the caches of this text with it")
        return process.ask(order, arrays)[1]

    def close(self) -> None:
        self._process.kill()


class Held:
    """A resident: a number that its stage knows it by, in one of its lives."""

    def __init__(self, stage: Running) -> None:
        self.stage, self.life, self.number = stage, stage.life, next(_numbers)

    def __del__(self) -> None:
        self.stage.dropped.append(self.number)


class Running:
    """A stage at work.

    Attributes:
        dropped: numbers that nobody holds any more.
    """

    def __init__(self, stage: Stage, opening: Opening) -> None:
        self.stage, self.dropped = stage, deque[int]()
        argument = opening.row(stage.path)
        self._asked: Asked
        if opening.workers == PROCESSES:
            self._asked = _InProcess(argument, stage.name)
        else:
            self._asked = _InThread(argument, {})
        self.facts = self._asked.facts
        self.inputs, self.outputs = set(stage.inputs), set(stage.outputs)

    @property
    def life(self) -> int:
        """See `Asked`."""
        return self._asked.life

    @property
    def pid(self) -> int | None:
        """Its process; None in a thread."""
        return self._asked.pid

    def ask(
        self, order: Mapping[str, Any], arrays: Mapping[str, Array], held: Sequence[Held]
    ) -> Mapping[str, Array]:
        """What an order about residents gives; raises WorkerFailed where they are lost."""
        drop = []
        with contextlib.suppress(IndexError):
            while True:
                drop.append(self.dropped.popleft())
        return self._asked.ask({**order, "drop": drop}, arrays, {item.life for item in held})

    def close(self) -> None:
        """Free it."""
        self._asked.close()


class StagedSession:
    """The stages of a decoder as one session; see `resident.ResidentSession`.

    Args:
        folder: that `optimize plan -o` wrote.
        provider, threads: of all stages, or of each.
        workers: `threads`, where stages run in the caller's, or `processes`.

    Raises:
        InvalidModel: the manifest is none of a pipeline.
        UsageError, UnsupportedModel: see `resident.open_resident`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str | Sequence[str] = "cpu",
        threads: int | Sequence[int] = 0,
        workers: str = PROCESSES,
    ) -> None:
        plan = stages.read(folder)
        self._stages: list[Running] = []
        with contextlib.ExitStack() as opened:
            for stage, opening in zip(
                plan.stages, plan.openings(provider, threads, workers), strict=True
            ):
                self._stages.append(Running(stage, opening))
                opened.callback(self._stages[-1].close)
            told = [row for item in self._stages for row in item.facts["inputs"]]
            told += [row for item in self._stages for row in item.facts["outputs"]]
            ports: dict[str, Port] = {row[0]: port_of(row) for row in told}
            self.inputs = [ports[name] for name in plan.inputs]
            self.outputs = [ports[name] for name in plan.outputs]
            if any(item.facts["static"] for item in self._stages):
                raise UsageError(
                    "caches of a fixed capacity do not stay with a stage",
                    hint="a plan of an artifact that was made without --kv-cache static",
                )
            opened.pop_all()
        self.static, self.together = False, len(self._stages)
        self._sent: dict[tuple[int, str, int], tuple[weakref.ref[Any], Held]] = {}

    def run(
        self,
        arrays: Mapping[str, Array],
        residents: Mapping[str, Resident],
        given: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[list[Array], list[Resident]]:
        values, held = dict(arrays), dict[str, Held]()
        for place, stage in enumerate(self._stages):
            later = {name for item in self._stages[place + 1 :] for name in item.inputs}
            wanted = [name for name in stage.stage.outputs if name in later or name in given]
            own = {name: Held(stage) for name in kept if name in stage.outputs}
            feed = {name: values[name] for name in stage.inputs if name in values}
            used = {}
            for name in stage.inputs & set(residents):
                resident = self._at(stage, name, residents[name])
                if isinstance(resident, Held):
                    used[name] = resident
                else:
                    feed[name] = resident
            order = {
                "do": "run",
                "residents": {name: item.number for name, item in used.items()},
                "given": wanted,
                "kept": {name: item.number for name, item in own.items()},
            }
            values |= stage.ask(order, feed, [*used.values(), *own.values()])
            held |= own
        return [values[name] for name in given], [held[name] for name in kept]

    def _at(self, stage: Running, name: str, resident: Resident) -> Held | Array:
        """A resident where a stage has it."""
        if isinstance(resident, Held):
            if resident.stage is stage:
                return resident
            array: Array = resident.stage.ask(
                {"do": "fetch", "of": resident.number}, {}, [resident]
            )["value"]
            return array
        # What an encoder gave is sent once.
        key = id(stage), name, id(resident)
        known = self._sent.get(key)
        if known is None or known[0]() is not resident or known[1].life != stage.life:
            held = Held(stage)
            stage.ask({"do": "hold", "to": {name: held.number}}, {name: resident}, [held])
            sent, forget = self._sent, lambda _: sent.pop(key, None)
            self._sent[key] = weakref.ref(resident, forget), held
        return self._sent[key][1]

    def empty(self, port: Port, shape: Sequence[int]) -> Resident:
        stage = next(item for item in self._stages if port.name in item.inputs)
        held = Held(stage)
        order = {"do": "empty", "port": port.name, "shape": list(shape), "to": held.number}
        stage.ask(order, {}, [held])
        return held

    def rows(self, residents: Sequence[Resident], index: Array) -> list[Resident]:
        return self._moved("rows", residents, {"index": index})

    def cut(self, residents: Sequence[Resident], length: int) -> list[Resident]:
        return self._moved("cut", residents, {}, length=length)

    def _moved(
        self, what: str, residents: Sequence[Resident], arrays: Mapping[str, Array], **more: int
    ) -> list[Resident]:
        found = list(residents)
        for stage in self._stages:
            places = [
                place
                for place, item in enumerate(residents)
                if isinstance(item, Held) and item.stage is stage
            ]
            if not places:
                continue
            old, new = [residents[place] for place in places], [Held(stage) for _ in places]
            numbers = {"of": [item.number for item in old], "to": [item.number for item in new]}
            stage.ask({"do": what, **numbers, **more}, arrays, [*old, *new])
            for place, item in zip(places, new, strict=True):
                found[place] = item
        # What an encoder gave lies here.
        return [
            item[arrays["index"]] if not isinstance(item, Held) and what == "rows" else item
            for item in found
        ]

    def pids(self) -> list[int | None]:
        """The process of each stage; None in threads."""
        return [stage.pid for stage in self._stages]

    def close(self) -> None:
        """Free all stages; a second call does nothing."""
        for stage in self._stages:
            stage.close()
