"""What each member of a zoo is, looked at before anything is done: its content and its sizes.

That happens in one sandboxed child for all of them, since starting one takes longer than looking.
Where a model ends the child, it has its error, and the next child goes on behind it.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish.driver.zoo.members import Member
from burnish.optimizer import artifact, sandbox
from burnish.optimizer.digests import digest_file
from burnish.optimizer.errors import (
    KINDS,
    BurnishError,
    ResourceLimit,
    StorageError,
    UsageError,
    reason_of,
)
from burnish.optimizer.frontend import checkpoint
from burnish.optimizer.model import load, weight_bytes
from burnish.optimizer.sandbox import Limits
from burnish.optimizer.user_data import TOKENIZER
from burnish.optimizer.vocabulary.settings import CONFIGURATIONS

TARGET = "burnish.driver.zoo.survey:survey"

LIMITS = Limits(memory=1 << 30, wall=4 * 3600.0)
"""Of the child: a model's large weights are mapped, not read."""

LONGEST = 60.0
"""Seconds for one model, besides those that its bytes take."""

BYTES_A_SECOND = 2e7
"""Least rate at which files are read and hashed."""

Facts = dict[str, Any]
"""`sha256` of the content, `beside` that of its companions, `bytes` and `weights`; or `error`."""


def looked_at(
    members: Sequence[Member],
    say: Callable[[int], None],
    *,
    allow_pickle: bool,
    trust_code: bool,
) -> list[Facts]:
    """The facts of the members, in their order; `say` is told how many are known."""
    found: list[Facts] = []

    def note(event: dict[str, Any]) -> None:
        found.append(event)
        say(len(found))

    while len(found) < len(members):
        rest = [str(member.path) for member in members[len(found) :]]
        order = {"models": rest, "allow_pickle": allow_pickle, "trust_code": trust_code}
        try:
            sandbox.call(TARGET, order, LIMITS, note)
        except BurnishError as error:
            if len(found) < len(members):
                note({"error": _letter(error)})
    return found


def error_of(facts: Facts) -> BurnishError | None:
    """The error that looking at a member gave, if any."""
    if "error" not in facts:
        return None
    letter = facts["error"]
    error = KINDS[letter["kind"]](letter["message"], place=letter["place"], hint=letter["hint"])
    error.file = letter["file"]
    return error


def survey(argument: dict[str, Any], emit: Callable[[Facts], None]) -> Facts:
    """Look at models, inside the child; the facts of each are an event."""
    signal.signal(signal.SIGALRM, _too_long)
    for name in argument["models"]:
        path = Path(name)
        try:
            signal.setitimer(signal.ITIMER_REAL, LONGEST + _bytes(path) / BYTES_A_SECOND)
            facts = _folder(path, argument) if path.is_dir() else _file(path)
        except BurnishError as error:
            facts = {"error": _letter(error)}
        except OSError as error:
            facts = {"error": _letter(StorageError(reason_of(error)))}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        emit(facts)
    return {}


def digest_of(*paths: Path) -> str:
    """SHA-256 of files and of what folders hold, with names; what is hidden does not count."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path) if path.is_dir() else Path(path.name)
            if file.is_file() and not any(part.startswith(".") for part in name.parts):
                line = f"{name.as_posix()}\0{digest_file(file)}\0"
                digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file(path: Path) -> Facts:
    loaded = load(path)
    beside = [artifact.companion(path, TOKENIZER)]
    beside += [path.parent / name for name in CONFIGURATIONS]
    return {
        "sha256": loaded.sha256,
        "beside": digest_of(*beside),
        "bytes": sum(file.stat().st_size for file in loaded.files),
        "weights": weight_bytes(loaded.model),
        "checkpoint": False,
    }


def _folder(path: Path, argument: dict[str, Any]) -> Facts:
    if artifact.is_folder(path):
        raise UsageError("an artifact already, not a checkpoint")
    found = checkpoint.read(
        path, allow_pickle=argument["allow_pickle"], trust_code=argument["trust_code"]
    )
    return {
        "sha256": digest_of(path),
        "beside": "",
        "bytes": found.bytes,
        "weights": found.bytes,
        "checkpoint": True,
    }


def _bytes(path: Path) -> int:
    """What is at a path and beside it, at most."""
    folder = path if path.is_dir() else path.parent
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _too_long(number: int, frame: object) -> None:
    raise ResourceLimit("looking through it takes too long")


def _letter(error: BurnishError) -> dict[str, str]:
    fields = ("message", "place", "hint", "file")
    return {"kind": type(error).__name__} | {name: getattr(error, name) for name in fields}
