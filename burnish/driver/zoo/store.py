"""The output folder of a zoo: results, what is known of them, and work that is not done yet.

    OUT/NAME.int8.onnx, OUT/NAME.int8.report.json      a member's artifact, and its report
    OUT/zoo.json, OUT/zoo.html                         the whole
    OUT/.zoo/lock                                      held by the run that works on the folder
    OUT/.zoo/done/KEY/PLACE.json                       finished work by key, and where it went
    OUT/.zoo/work/                                     what is being made; removed by the next run

An artifact is moved to its place when it is whole, and is noted as done after that. So a run that
is ended at any moment leaves whole artifacts and notes of finished work only; what was moved and
not noted is made once more. What is noted counts as done while its files have their digests.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.driver.zoo.jobs import Job
from burnish.optimizer import artifact
from burnish.optimizer.configurations import told_in
from burnish.optimizer.digests import digest_file
from burnish.optimizer.errors import StorageError, UsageError, reason_of
from burnish.optimizer.report import as_json
from burnish.optimizer.saving import files_of, remove, write_text

STATE = ".zoo"
"""The hidden folder with what is not for the user."""

Note = dict[str, Any]
"""`target`, `files` (digests by path below the output), `facts` and `report` of finished work."""


@dataclass(frozen=True)
class Store:
    """An output folder whose lock is held.

    Attributes:
        output: the folder.
        work: this run's folder for what is being made.
    """

    output: Path
    work: Path

    @property
    def turn(self) -> Path:
        """What compilations share that take times in turn."""
        return self.work / "turn"

    def recall(self, job: Job) -> Note | None:
        """The note of the job's work, where that was done and its files are as they were."""
        own = self._note(job)
        if (note := self._valid(own)) is not None:
            return note
        for other in sorted(own.parent.glob("*.json")):
            if (note := self._valid(other)) is not None:
                return self._copied(job, note) if note["files"] else note
        return None

    def _valid(self, path: Path) -> Note | None:
        """The note in a file; None where it is none, or says what is no longer so."""
        note = told_in(path)
        files = note.get("files")
        if not isinstance(files, dict) or not {"target", "facts", "report"} <= note.keys():
            return None
        try:
            same = all(digest_file(self.output / name) == files[name] for name in files)
        except (OSError, ValueError):
            return None
        return note if same else None

    def keep(self, job: Job, made: Path | None, facts: Note, report: Note) -> Note:
        """Move what was made to its place, and note that it is done.

        Args:
            job: whose work it is.
            made: the folder that holds it and nothing else; None where nothing was made.
            facts: of its row.
            report: of its compilation.

        Raises:
            StorageError: it cannot be written, or its place is taken.
        """
        files = {}
        if made is not None:
            with _failures():
                files = self._publish(job, made)
        note = {"target": job.target.as_posix(), "files": files, "facts": facts, "report": report}
        path = self._note(job)
        with _failures():
            path.parent.mkdir(exist_ok=True)
        write_text(path, as_json(note) + "\n")
        return note

    @contextlib.contextmanager
    def scratch(self, job: Job) -> Iterator[Path]:
        """A folder for a job's results, on the file system of their place; gone afterwards."""
        with _failures():
            folder = Path(tempfile.mkdtemp(prefix=f"{job.index}-", dir=self.work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _note(self, job: Job) -> Path:
        name = hashlib.sha256(job.target.as_posix().encode(errors="surrogateescape")).hexdigest()
        return self.output / STATE / "done" / job.key / f"{name[:16]}.json"

    def _publish(self, job: Job, made: Path) -> dict[str, str]:
        """Move files to the job's place, the model last; their digests."""
        target = self.output / job.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(job.request.model):
            raise UsageError("the output would overwrite the input", hint="another -o")
        main, place = made / target.name, target.parent
        files = {
            (place / file.relative_to(made)).relative_to(self.output).as_posix(): digest_file(file)
            for file in sorted(made.rglob("*"))
            if file.is_file()
        }
        before = [] if target.is_dir() else files_of(target)
        for item in sorted(made.iterdir()):
            if item != main:
                item.replace(place / item.name)
        if main.is_dir():
            artifact.admit_folder(target, job.request.model)
            artifact.publish_folder(main, target)
        else:
            main.replace(target)
        kept = {self.output / name for name in files}
        remove(file for file in before if file not in kept)
        return files

    def _copied(self, job: Job, note: Note) -> Note | None:
        """The same work under another name: its files are copied; None where they cannot be."""
        old, new = Path(note["target"]), job.target
        with self.scratch(job) as folder:
            try:
                for name in note["files"]:
                    copy = folder / _renamed(Path(name).relative_to(old.parent), old.name, new.name)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self.output / name, copy)
            except (OSError, ValueError):
                return None
            return self.keep(job, folder, note["facts"], note["report"])


def _renamed(file: Path, old: str, new: str) -> Path:
    """The name of a copied file: data files keep theirs, which the model holds."""
    first, *rest = file.parts
    if first == old:
        return Path(new, *rest)
    stem = old.removesuffix(".onnx")
    if first.startswith(f"{stem}.") and not first.endswith(".data"):
        return Path(new.removesuffix(".onnx") + first.removeprefix(stem), *rest)
    return file


@contextlib.contextmanager
def opened(output: Path, wait: Callable[[str], None]) -> Iterator[Store]:
    """The output folder, to this run alone; waits for another one that works on it.

    Args:
        output: the folder, made where it is absent.
        wait: told who holds it, once, before waiting.

    Raises:
        StorageError: it cannot be made, written or locked.
    """
    state = output / STATE
    with contextlib.ExitStack() as stack:
        with _failures():
            for folder in (state / "done", state / "work"):
                folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, handle)
            _lock(handle, wait)
            # What runs before this one have left; theirs is no more, and their children neither.
            for folder in (state / "work").iterdir():
                shutil.rmtree(folder, ignore_errors=True)
            work = Path(tempfile.mkdtemp(dir=state / "work"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield Store(output, work)


def _lock(handle: int, wait: Callable[[str], None]) -> None:
    """Take the lock, which goes with the process however that ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wait(os.pread(handle, 20, 0).decode(errors="replace").strip())
        fcntl.flock(handle, fcntl.LOCK_EX)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What the system refuses, in words."""
    try:
        yield
    except OSError as error:
        file = error.filename or "the output folder"
        raise StorageError(f"{file} cannot be written: {reason_of(error)}") from None
