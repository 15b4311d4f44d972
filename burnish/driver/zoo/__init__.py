"""Batch conversion: every model of a zoo, side by side, each converted or explained in a row.

A run can be ended at any moment, by any signal, and begun again: what was done is known by its
content, options, versions and processor, and is not done again; see `store`. Choices that were
measured are in the tuning record as soon as they are made; see `optimizer.record`. So what is done
later has the same bytes as what would have been done at once.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver.request import Request
from burnish.driver.zoo import cluster, rows, since, store
from burnish.driver.zoo.cluster import Compile
from burnish.driver.zoo.crew import done_by
from burnish.driver.zoo.jobs import Job, jobs_for
from burnish.driver.zoo.members import members
from burnish.driver.zoo.page import page
from burnish.driver.zoo.rows import Row
from burnish.driver.zoo.since import SCHEMA
from burnish.driver.zoo.store import Note, Store
from burnish.driver.zoo.survey import looked_at
from burnish.optimizer import tuner
from burnish.optimizer.errors import BurnishError, ResourceLimit, UsageError
from burnish.optimizer.report import as_json
from burnish.optimizer.saving import write_text
from burnish.optimizer.turns import wake_left

JSON, HTML = "zoo.json", "zoo.html"
"""What a run writes into the output folder at its end."""

REPORT = ".report.json"
"""What a member's report is called after its artifact's name, without `.onnx`."""

Missed = Callable[[Request, dict[str, Any]], str]
Say = Callable[[dict[str, Any]], None]
"""Told of events: `waiting`, `looking`, `begun`, `started`, `stage` and `finished`."""


@dataclass(frozen=True)
class Order:
    """What a run is asked for.

    Attributes:
        source: a folder, a list of paths, or a YAML file; see `members`.
        output: folder of the results.
        options: of all members, by their names at the prompt; they win over those of the YAML.
        places: jobs at a time; 0 for one per core.
        memory_limit: bytes that all jobs at a time may need together; None for what is free.
        since: an earlier zoo.json to compare with.
        allow_pickle, trust_remote_code: as in a request, for all checkpoints.
        ray: the address of a Ray cluster that compiles; None for this machine.
    """

    source: str
    output: str
    options: Mapping[str, Any] = field(default_factory=dict)
    places: int = 0
    memory_limit: int | None = None
    since: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    ray: str | None = None


def convert(order: Order, optimize: Compile, missed: Missed, say: Say) -> dict[str, Any]:
    """Convert a zoo; the report, which is in its output folder as `zoo.json` and `zoo.html` too.

    Args:
        order: what is asked for.
        optimize: the main job.
        missed: what of a request the report of it does not meet; empty for nothing.
        say: told of events, from several threads.

    Raises:
        UsageError, StorageError: the zoo cannot be read, or its output not be written.
    """
    source, output = Path(order.source), Path(order.output)
    _admit(source, output)
    before = since.earlier(Path(order.since)) if order.since else None
    found = members(source, output)
    with store.opened(output, lambda holder: say({"event": "waiting", "holder": holder})) as held:
        asked = order.ray, optimize, order.places, order.memory_limit, held.work
        with _temporary_in(held.work), cluster.power(*asked) as power:
            crew = _Crew(order, held, power, missed, say)
            made = crew.rows_of(found)
        report = _report(order, crew, made)
        report["since"] = None
        if before is not None:
            report["since"] = {"path": order.since, **since.compared(before, made)}
        report["exit_code"] = _exit_code(report)
        write_text(output / JSON, as_json(report) + "\n")
        write_text(output / HTML, page(report))
    return report


class _Crew:
    """One run: looks at members, does what is not done, and makes their rows."""

    def __init__(
        self, order: Order, held: Store, power: cluster.Power, missed: Missed, say: Say
    ) -> None:
        self.budget, self.places = power.budget, power.places
        self.known = 0
        self._order = order
        self._store = held
        self._power = power
        self._missed = missed
        self._say = say

    def rows_of(self, found: Sequence[Any]) -> list[Row]:
        """The members' rows, in their order."""
        total, order = len(found), self._order
        pickles, code = order.allow_pickle, order.trust_remote_code
        facts = looked_at(
            found,
            lambda count: self._say({"event": "looking", "count": count, "total": total}),
            allow_pickle=pickles,
            trust_code=code,
        )
        jobs = jobs_for(found, facts, order.options, allow_pickle=pickles, trust_code=code)
        notes = {job.index: note for job in jobs if (note := self._without_work(job)) is not None}
        left = [job for job in jobs if job.index not in notes]
        cost = {job.index: 1.0 + job.facts["weights"] / 2e7 for job in left}
        self._say({"event": "begun", "total": total, "known": self.known, "cost": cost})
        for job in jobs:
            if job.index in notes:
                self._finish(job, notes[job.index])
        done = done_by(
            left, self._work, budget=self.budget, places=self.places, stop=self._power.stop
        )
        with contextlib.closing(done):  # at once, also where somebody interrupts
            for job, note in done:
                notes[job.index] = note
                self._finish(job, note)
        return [self._row(job, notes[job.index]) for job in jobs]

    def _without_work(self, job: Job) -> Note | None:
        """The note of a job that is done, or that comes to nothing; None where there is work."""
        error = job.error
        if error is None:
            if (note := self._store.recall(job)) is not None:
                self.known += 1
                return note
            if job.need > self._power.largest:
                error = ResourceLimit(
                    f"needs about {job.need / 1e9:.1f} GB, and the budget is "
                    f"{self._power.largest / 1e9:.1f} GB",
                    hint="a larger --memory-limit, or `no-check: true` and `no-measure: true`",
                )
        return None if error is None else _unmade(job, rows.failed(error, 0.0))

    def _work(self, job: Job) -> Note:
        """Do a job, in a thread of its own; its note, whatever happens."""
        start = time.monotonic()
        self._say({"event": "started", "index": job.index, "name": job.member.name})
        try:
            # The same work under another name may have been done meanwhile.
            return self._store.recall(job) or self._made(job, start)
        except BurnishError as error:
            return self._failure(job, error, start)
        except Exception as error:
            internal = BurnishError(f"internal error: {type(error).__name__}: {error}")
            return self._failure(job, internal, start)
        finally:
            wake_left(self._store.turn)

    def _made(self, job: Job, start: float) -> Note:
        with self._store.scratch(job) as folder:
            turn = str(self._store.turn.absolute())
            request = replace(job.request, output=str(folder / job.target.name), turn=turn)
            report = self._power.optimize(request, lambda event: self._stage(job, event)).report
            given = report["input"]["sha256"] if "input" in report else job.facts["sha256"]
            if given != job.facts["sha256"]:
                raise UsageError("it was changed while the zoo was converted", hint="once more")
            missed = self._missed(request, report)
            written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            facts = rows.made(report, written, missed, time.monotonic() - start)
            _settle(report, str(folder), str((Path(self._order.output) / job.target).parent))
            return self._store.keep(job, folder, facts, report)

    def _failure(self, job: Job, error: BurnishError, start: float) -> Note:
        facts = rows.failed(error, time.monotonic() - start)
        if error.exit_code in rows.LASTING and type(error) is not BurnishError:
            with contextlib.suppress(BurnishError):
                return self._store.keep(job, None, facts, {})
        return _unmade(job, facts)

    def _stage(self, job: Job, event: dict[str, Any]) -> None:
        if "stage" in event:
            stage = str(event["stage"])
            self._say({"event": "stage", "index": job.index, "stage": stage})

    def _finish(self, job: Job, note: Note) -> None:
        self._say({"event": "finished", "index": job.index, "row": self._row(job, note)})

    def _row(self, job: Job, note: Note) -> Row:
        """A job's row; its report is written where that is not there."""
        if not note["files"]:
            return rows.row(job, note, None)
        name = job.target.name.removesuffix(".onnx") + REPORT
        file = self._store.output / job.target.with_name(name)
        text = as_json(note["report"]) + "\n"
        if not file.is_file() or file.read_text("utf-8", "replace") != text:
            write_text(file, text)
        return rows.row(job, note, job.target.with_name(name))


def _admit(source: Path, output: Path) -> None:
    """Raise where results would lie among what is looked for."""
    if source.is_dir() and output.exists() and output.samefile(source):
        raise UsageError("the results would lie among the models", hint="another -o")
    if output.exists() and not output.is_dir():
        raise UsageError(f"the output {output} is a file, not a folder", hint="another -o")


def _unmade(job: Job, facts: dict[str, Any]) -> Note:
    return {"target": job.target.as_posix(), "files": {}, "facts": facts, "report": {}}


def _settle(report: Any, made: str, place: str) -> None:
    """Let a report name the place of its files, not the folder in which they were made."""
    items = report.items() if isinstance(report, dict) else enumerate(report)
    for key, value in list(items):
        if isinstance(value, str) and value.startswith(made):
            report[key] = place + value.removeprefix(made)
        elif isinstance(value, dict | list):
            _settle(value, made, place)


@contextlib.contextmanager
def _temporary_in(folder: Path) -> Iterator[None]:
    """Temporary files lie in a folder that the next run removes: a killed one cannot tidy up."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder.absolute())
    try:
        yield
    finally:
        tempfile.tempdir = before


def _report(order: Order, crew: _Crew, made: Sequence[Row]) -> dict[str, Any]:
    """What `zoo.json` says, but for an earlier run."""
    counts = Counter(row["status"] for row in made)
    names = (rows.CONVERTED, rows.UNCHANGED, rows.MISSED, rows.FAILED)
    return {
        "schema": SCHEMA,
        "burnish": __version__,
        "source": order.source,
        "output": order.output,
        "options": dict(order.options),
        "target": {"device": tuner.processor()[0], "places": crew.places},
        "budget_bytes": crew.budget,
        "members": list(made),
        "summary": {name: counts[name] for name in names},
        "known": crew.known,
    }


def _exit_code(report: Mapping[str, Any]) -> int:
    """1 where a member came to nothing or missed a condition, or has become worse; else 0."""
    bad = report["summary"][rows.FAILED] + report["summary"][rows.MISSED]
    worse = report["since"]["regressions"] if report["since"] else []
    return 1 if bad or worse else 0
