"""What every command does at the terminal: errors as one line, progress, the report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from burnish.driver import Progress
from burnish.optimizer.errors import BurnishError, StorageError, printable, reason_of
from burnish.optimizer.report import as_json as as_json

MAIN = "model"
"""Name under which the main job hides among the subcommands."""


class DefaultGroup(TyperGroup):
    """A group whose main job needs no name: what is no subcommand is a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Only the first word can be a command: later ones may be values of options.
        if args and args[0] not in (*self.commands, "--help", "--version"):
            args = [MAIN, *args]
        return super().parse_args(ctx, args)


class _Output(Console):
    """A console whose reader may leave early (`optimize ... | head`): that is no failure."""

    def on_broken_pipe(self) -> None:
        sys.exit(0)


def given(context: typer.Context) -> set[str]:
    """The options that the user gave at the prompt, by their names there."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    named = (name for name, source in sources.items() if source and source.name == "COMMANDLINE")
    return {name.replace("_", "-") for name in named}


errors = _Output(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def errors_as_lines(file: str, debug: bool) -> Iterator[None]:
    """Turn an error into its one line and exit code."""
    try:
        yield
    except BurnishError as error:
        if debug:
            errors.print_exception(show_locals=False)
            for note in getattr(error, "__notes__", ()):
                errors.print(note, markup=False)
        errors.print(error.line(file), markup=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except (OSError, UnicodeError) as error:
        failure = StorageError(getattr(error, "strerror", None) or "its name cannot be used")
        errors.print(failure.line(file), markup=False)
        sys.exit(failure.exit_code)


@contextlib.contextmanager
def progress_shown(quiet: bool) -> Iterator[Progress]:
    """A moving line on a terminal, a plain line per stage elsewhere, nothing if quiet.

    The search for a budget goes through the same stages many times: they are said once.
    """
    said: set[str] = set()

    def say(event: dict[str, object]) -> None:
        stage = printable(str(event.get("stage", "")))
        if stage not in said:
            said.add(stage)
            errors.print(stage, markup=False)

    if quiet:
        yield lambda event: None
    elif errors.is_terminal and sys.stderr.isatty():  # which variables of CI systems contradict
        with errors.status("starting") as status:
            yield lambda event: status.update(printable(str(event.get("stage", ""))))
    else:
        yield say


def show(
    facts: dict[str, Any],
    json_file: str | None,
    quiet: bool,
    render: Callable[[Console], None],
) -> None:
    """Give a command's facts as data to a file or standard output, or rendered."""
    if json_file == "-":
        print(as_json(facts))
        return
    if json_file:
        try:
            Path(json_file).write_text(as_json(facts) + "\n")
        except OSError as error:
            errors.print(printable(f"error: {json_file}: {reason_of(error)}"), markup=False)
            raise typer.Exit(7) from None
    if not quiet:
        width = None if sys.stdout.isatty() else 100
        render(_Output(width=width, highlight=False, soft_wrap=False))
