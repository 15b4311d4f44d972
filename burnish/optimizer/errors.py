"""What can go wrong, as one tree; the exit code of the command line is a property of the kind.

    BurnishError
    ├── UsageError          2   options that contradict each other or mean nothing
    ├── InvalidModel        3   not an ONNX model, or one that breaks the standard
    │   └── UnsupportedModel 3  a legal model that we or the runtime asked for cannot run
    ├── UnsafeInput         4   a file that reaches outside its own folder
    ├── ResourceLimit       5   memory, processor or wall-clock limit reached
    │   ├── DeadlineExceeded 5  no answer within the seconds that were given for it
    │   └── Overloaded      5   more requests wait than there is room for
    ├── WorkerFailed        5   a process that worked on it died or hangs
    └── StorageError        7   reading or writing failed

A threshold that is not met (exit code 1) is a result, not an error.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path


class BurnishError(Exception):
    """A failure that is told to the user in one line.

    Attributes:
        message: what is wrong.
        place: where in the input (a node, tensor or field), or empty.
        hint: what to do next, or empty.
        file: which file it is about, where that is not the model of the command; or empty.
    """

    exit_code = 3

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint
        self.file = ""

    def line(self, file: str) -> str:
        """Render as `error: FILE: what is wrong (where); try ...` without control characters."""
        text = f"error: {self.file or file}: {self.message}"
        if self.place:
            text += f" ({self.place})"
        if self.hint:
            text += f"; try {self.hint}"
        return printable(text)


class UsageError(BurnishError):
    """Options that contradict each other or mean nothing."""

    exit_code = 2


class InvalidModel(BurnishError):
    """Not an ONNX model, or one that breaks the standard."""


class UnsupportedModel(InvalidModel):
    """A legal model that Burnish, or the runtime asked for, cannot run."""


class UnsafeInput(BurnishError):
    """A file that reaches outside its own folder."""

    exit_code = 4


class ResourceLimit(BurnishError):
    """A limit on memory, processor or wall-clock time was reached."""

    exit_code = 5


class DeadlineExceeded(ResourceLimit):
    """There was no answer within the seconds that were given for it."""


class Overloaded(ResourceLimit):
    """More requests wait than there is room for."""


class WorkerFailed(BurnishError):
    """A process that worked on a request died or hangs."""

    exit_code = 5


class StorageError(BurnishError):
    """Reading or writing failed."""

    exit_code = 7


def reason_of(error: OSError) -> str:
    """What the system says of a failure, in the case of our own sentences."""
    return (error.strerror or str(error)).lower()


REMEDIES = {
    errno.ENOSPC: "freeing space there, -o on another disk, or TMPDIR for what lies in between",
    errno.EDQUOT: "freeing space there, or -o on another disk",
    errno.EFBIG: "a higher limit on the size of files (ulimit -f)",
    errno.EACCES: "-o in a folder that you may write to",
    errno.EPERM: "-o in a folder that you may write to",
    errno.EROFS: "-o in a folder that is not read-only",
}
"""What to do where writing fails, by the system's reason."""


def not_written(what: str, error: OSError) -> StorageError:
    """That something could not be written, why, and what to do about it."""
    remedy = REMEDIES.get(error.errno or 0, "")
    return StorageError(f"{what}: {reason_of(error)}", hint=remedy)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """Errors inside are about the file at `path`."""
    try:
        yield
    except BurnishError as error:
        error.file = str(path)
        raise


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that another one is probably meant for; empty where none is like it."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, 0.7)), "")


KINDS: dict[str, type[BurnishError]] = {
    kind.__name__: kind
    for kind in (
        BurnishError,
        UsageError,
        InvalidModel,
        UnsupportedModel,
        UnsafeInput,
        ResourceLimit,
        DeadlineExceeded,
        Overloaded,
        WorkerFailed,
        StorageError,
    )
}
"""The kinds by name, for errors that cross a process boundary."""


def letter(error: BurnishError) -> dict[str, str]:
    """An error as it crosses a process boundary."""
    fields = ("message", "place", "hint", "file")
    return {"kind": type(error).__name__} | {name: getattr(error, name) for name in fields}


def revived(told: dict[str, str]) -> BurnishError:
    """The error that a `letter` tells of."""
    kind = KINDS.get(told["kind"], InvalidModel)
    error = kind(told["message"], place=told["place"], hint=told["hint"])
    error.file = told["file"]
    if "trace" in told:
        error.add_note(told["trace"])
    return error


def printable(text: str, limit: int = 400) -> str:
    """Escape what a terminal would act on (control, format, surrogate) and bound the length."""
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."
