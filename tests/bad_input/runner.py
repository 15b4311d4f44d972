"""Runs the command line on a case, in the process of a pool; the work is in its children anyway."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import resource
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import corpus
import forking

from burnish import cli
from burnish.optimizer import sandbox

HANGING = 90.0
"""Seconds after which a process ends itself, and the pool and the tests with it."""

STARTED = {"valid", "bomb"}
"""Categories whose children are new interpreters, as users' are; those of others are forks."""


@dataclass(frozen=True)
class Result:
    """What the command line did with a case, and what it left in the folder of the output.

    `seconds` are of the processor, in the children and theirs.
    """

    case: corpus.Case
    code: int
    seconds: float
    stdout: bytes
    stderr: bytes
    left: tuple[str, ...]
    changed: bool
    output: Path

    @property
    def printed(self) -> bytes:
        return self.stdout + self.stderr


def run(case: corpus.Case, out: Path) -> Result:
    folder = out / case.category / case.name
    folder.mkdir(parents=True)
    output = folder / "out.onnx"
    before = _digests(case)
    arguments = [str(case.path), *corpus.EXPECTED[case.category].options, *case.options]
    start = _seconds()
    faulthandler.dump_traceback_later(HANGING, exit=True)
    processes = subprocess if case.category in STARTED else forking.PROCESSES
    with mock.patch.object(sandbox, "subprocess", processes):
        code, stdout, stderr = _call([*arguments, "--no-measure", "-o", str(output)])
    faulthandler.cancel_dump_traceback_later()
    seconds = _seconds() - start
    left = tuple(sorted(str(file.relative_to(folder)) for file in folder.rglob("*")))
    changed = _digests(case) != before
    return Result(case, code, seconds, stdout, stderr, left, changed, output)


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _call(arguments: list[str]) -> tuple[int, bytes, bytes]:
    stdout, stderr = io.BytesIO(), io.BytesIO()
    with (
        io.TextIOWrapper(stdout, "utf-8", write_through=True) as out,
        io.TextIOWrapper(stderr, "utf-8", write_through=True) as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["optimize", *arguments]),
    ):
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except Exception:
            code = 1
            traceback.print_exc()
        return code, stdout.getvalue(), stderr.getvalue()


def _digests(case: corpus.Case) -> dict[str, str]:
    """Of the regular files that came with the model."""
    if case.path.is_relative_to("/dev"):
        return {}
    folder = case.path.parent
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
