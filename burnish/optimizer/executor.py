"""Runs models on stored feeds in a child process; owns the scratch folder they lie in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.contract import Array, Feeds


@dataclass(frozen=True)
class Job:
    """One model for the executor; see `runtimes.work.execute`."""

    path: Path
    feeds: list[list[Path]]
    results: Path
    optimize: bool = False
    provider: str = "cpu"

    def as_json(self) -> dict[str, Any]:
        """The job as it crosses the process boundary."""
        return {
            "path": str(self.path),
            "feeds": [[str(folder) for folder in folders] for folders in self.feeds],
            "results": str(self.results),
            "optimize": self.optimize,
            "provider": self.provider,
        }


class Executor:
    """Runs models in a child; owns a scratch folder.

    Args:
        execute: hands `{"jobs": [...]}` to a child and returns its report.
        read, write: arrays from and to a folder; all of them are read, or those of some names.
    """

    def __init__(
        self,
        scratch: Path,
        execute: Callable[[dict[str, Any]], dict[str, Any]],
        read: Callable[..., dict[str, Array]],
        write: Callable[[Path, Mapping[str, Array]], None],
    ) -> None:
        self.scratch = scratch
        self.read = read
        self.write = write
        self._execute = execute
        self._names = itertools.count()

    def folder(self) -> Path:
        """A new empty folder in the scratch space."""
        path = self.scratch / str(next(self._names))
        path.mkdir(parents=True)
        return path

    def store(self, feeds: Iterable[Feeds]) -> list[Path]:
        """Write feeds once, to be run by several jobs."""
        root = self.folder()
        folders = []
        for index, feed in enumerate(feeds):
            folders.append(root / str(index))
            self.write(folders[-1], feed)
        return folders

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Do the jobs in one child; one report each."""
        report = self._execute({"jobs": [job.as_json() for job in jobs]})
        reports: list[dict[str, Any]] = report["jobs"]
        return reports
