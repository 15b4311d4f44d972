"""Choose among equivalent forms of a region by measuring them; remember what was measured.

The record (see `record`) is a JSON file, by default in the user's cache folder. A choice is looked
up by provider, processor, threads, the runtime's version and the region's key; what is found there
is not measured again, so the same record gives the same artifact. `--tuning FILE` names another
record, which replays one machine's choices anywhere.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Container, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import StorageError, UnsupportedModel, reason_of
from burnish.optimizer.executor import Executor
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.record import MACHINE_ENDS, Record

SECONDS = 1.0
"""Time given to one comparison; forms differ by more than short blocks blur."""

BLOCK_SECONDS = 0.04
"""Length of a block of runs of one form."""


def default_record() -> Path:
    """The record in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "burnish" / "tuning.json"


def processor() -> tuple[str, frozenset[str]]:
    """The processor's model name and its instruction set extensions."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields = {}
    for line in text.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", platform.machine()), frozenset(flags.split())


class Tuner:
    """A `contract.Chooser` with a memory.

    Args:
        contest: times the forms; None where measuring is off, and rules decide.
        executor: owner of the scratch space.
        record: file of earlier choices, created where absent; None keeps nothing.
        replay: read the record under any machine's name (`--tuning FILE`).
        warn: takes what the user should know of the record.
        machine: what, besides the region, the times depend on.
        provider: whose choices these are, where one record holds those of several.
    """

    def __init__(
        self,
        contest: Contest | None,
        executor: Executor,
        record: Path | None,
        machine: str,
        *,
        provider: str = "",
        replay: bool = False,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._contest = contest
        self._executor = executor
        # Replayed, a choice has lost its machine, but not its provider.
        self._prefix = ("" if replay else f"{machine}{MACHINE_ENDS}") + (
            f"{provider}: " if provider else ""
        )
        self._record = Record(record, anywhere=replay) if record is not None else None
        self._kept: dict[str, Choice] = {}
        self._warn = warn
        self._replay = replay
        self._new = self._unwritten = False

    def __enter__(self) -> Tuner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(
        self, key: str, forms: Mapping[str, Callable[[], onnx.ModelProto]], rule: str
    ) -> Choice:
        """The recorded, else the measured, else the ruled choice."""
        known = self.recall(key, forms)
        if known is not None:
            return known
        if self._contest is None:
            return Choice(rule, 1.0, measured=False)
        if self._record is not None:
            self._record.refresh()
        known = self.recall(key, forms)
        return known or self.remember(key, self._measure(forms), forms)

    def recall(self, key: str, among: Container[str]) -> Choice | None:
        """The recorded choice, where it is one of those that there are."""
        key = self._prefix + key
        known = self._kept.get(key)
        if known is None and self._record is not None:
            return self._record.recall(key, among)
        return known if known is not None and known.winner in among else None

    def remember(self, key: str, choice: Choice, among: Container[str]) -> Choice:
        """Record what was measured; what stands, which another process may have recorded."""
        self._new = True
        key = self._prefix + key
        if self._record is not None:
            try:
                choice = self._record.keep(key, choice, among)
            except (OSError, StorageError) as error:
                self._say_unwritten(error)
        self._kept[key] = choice
        return choice

    def _say_unwritten(self, error: OSError | StorageError) -> None:
        """A record that cannot be written is not worth failing for."""
        if not self._unwritten:
            reason = reason_of(error) if isinstance(error, OSError) else error.message
            self._warn(f"choices could not be kept in the tuning record: {reason}")
        self._unwritten = True

    def _measure(self, forms: Mapping[str, Callable[[], onnx.ModelProto]]) -> Choice:
        assert self._contest is not None
        folder = self._executor.folder()
        entrants = {}
        feeds: Path | None = None
        for name, build in forms.items():
            message = build()
            path = folder / f"{name}.onnx"
            path.write_bytes(message.SerializeToString())
            feeds = feeds or self._executor.store([_normal_feed(message)])[0]
            entrants[name] = Entrant(path, feeds)
            del message
        for name in list(entrants):
            try:
                self._contest.admit(name, entrants[name])
            except UnsupportedModel:  # a form that this runtime does not run is none to choose
                if len(entrants) == 1:
                    raise
                del entrants[name]
        baseline = next(iter(entrants))
        alone = len(entrants) == 1
        timings = {} if alone else self._contest.compare(entrants, SECONDS, BLOCK_SECONDS)
        winner, best = baseline, 1.0
        ms = next((timing.baseline_ms for timing in timings.values()), 0.0)
        for name, timing in timings.items():
            if timing.low > 1.0 and timing.speedup > best:
                winner, best = name, timing.speedup
        if winner == baseline:
            best = max((timing.speedup for timing in timings.values()), default=1.0)
        for path in folder.iterdir():
            path.unlink()
        return Choice(winner, round(best, 3), measured=True, ms=round(ms, 4))

    def close(self) -> None:
        """Say where a record that is replayed lacked choices."""
        if self._replay and self._new:
            self._warn("the tuning record did not hold every choice: some were measured anew")


def _normal_feed(message: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Normal floats; ones where whole numbers or truth values are asked for, as in masks.

    A free axis is called by the size that it gets.
    """
    generator = np.random.default_rng(1)
    feed = {}
    for value in message.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or int(dim.dim_param or 0) for dim in dims]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        real = kind == np.float32
        feed[value.name] = (
            generator.standard_normal(shape, np.float32) if real else np.ones(shape, kind)
        )
    return feed
