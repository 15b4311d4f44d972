"""The tuning record: a file of measured choices that several compilations may add to at once.

A choice is stored as soon as it is measured, and the first that is stored stands: whoever has
measured the same place meanwhile takes what is in the file. So the artifacts of compilations that
ran side by side, or were ended half-way, are those that the file gives when it is replayed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Container, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import StorageError

MACHINE_ENDS = " | "
"""What stands between the name of a machine and the rest of a key."""


class Record:
    """Choices by key, in a file.

    Args:
        path: the file, created with the first choice.
        anywhere: the names of machines in the keys do not count (`--tuning FILE`).

    Raises:
        StorageError: the file is there and is no record.
    """

    def __init__(self, path: Path, *, anywhere: bool = False) -> None:
        self._path = path
        self._anywhere = anywhere
        self._choices = self._named(_read(path))

    def recall(self, key: str, among: Container[str]) -> Choice | None:
        """The stored choice, where it is one of those that there are."""
        known = self._choices.get(key)
        return known if known is not None and known.winner in among else None

    def refresh(self) -> None:
        """Take note of what others have stored; a file that has become unreadable is no news."""
        with contextlib.suppress(StorageError):
            self._choices |= self._named(_read(self._path))

    def keep(self, key: str, choice: Choice, among: Container[str]) -> Choice:
        """Store a choice, and return what stands: an earlier one, where it can be taken.

        Raises:
            OSError: it cannot be written; the choice stands in this process.
            StorageError: the file has become something else.
        """
        self._choices[key] = choice
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.parent):
            content = _read(self._path)
            known = self._named(content).get(key)
            if known is not None and known.winner in among:
                self._choices[key] = known
                return known
            content[key] = choice
            self._write(content)
        return choice

    def _write(self, content: dict[str, Choice]) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w") as stream:
                rows = {key: _told(choice) for key, choice in sorted(content.items())}
                json.dump(rows, stream, indent=1)
            os.replace(name, self._path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _named(self, content: dict[str, Choice]) -> dict[str, Choice]:
        if not self._anywhere:
            return content
        return {key.rpartition(MACHINE_ENDS)[2]: choice for key, choice in content.items()}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, which goes with the process however that ends."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _told(choice: Choice) -> dict[str, Any]:
    """A choice as the file has it, without facts where there are none."""
    return {name: value for name, value in asdict(choice).items() if value != {}}


def _read(path: Path) -> dict[str, Choice]:
    """The choices in a file; none where it is absent.

    Raises:
        StorageError: where it is not a record.
    """
    try:
        content = json.loads(path.read_text())
        return {key: Choice(**fields) for key, fields in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise StorageError(f"{path} is not a tuning record", hint="removing it") from None
