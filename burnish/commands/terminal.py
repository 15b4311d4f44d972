"""What every command does at the terminal: errors as one line, progress, the report."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from burnish import report
from burnish.commands.usage import PANEL_OF
from burnish.driver import Progress
from burnish.optimizer.errors import (
    BurnishError,
    StorageError,
    nearest,
    not_written,
    printable,
)
from burnish.optimizer.report import as_json as as_json

MAIN = "model"
"""Name under which the main job hides among the subcommands."""


USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Click's UsageError; Typer carries a copy of Click of its own and exports only subclasses."""


class PanelledCommand(TyperCommand):
    """A command whose help has its options in panels, by what they are about (see `usage`)."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for option in self.params:
            if not getattr(option, "rich_help_panel", None):
                option.rich_help_panel = PANEL_OF.get(option.name or "")  # type: ignore[attr-defined]


class DefaultGroup(TyperGroup):
    """A group whose main job needs no name: what is no subcommand is a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Only the first word can be a command: later ones may be values of options.
        if args and args[0] not in (*self.commands, *self._own_options(ctx)):
            meant = nearest(args[0], self.commands) if len(args) > 1 else ""
            if meant and not os.path.exists(args[0]) and not ctx.resilient_parsing:
                raise USAGE_ERROR(f"{args[0]} is no command, nor a file; try {meant}")
            args = [MAIN, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What a first word may go on as: a command, an option of the main job, or a model."""
        found = [item for item in super().shell_complete(ctx, incomplete) if item.value != MAIN]
        main = self.commands[MAIN]
        with main.make_context(MAIN, [], parent=ctx, resilient_parsing=True) as inner:
            of_main = main.shell_complete(inner, incomplete)
            if not incomplete.startswith("-"):
                of_main = main.params[0].shell_complete(inner, incomplete)
        known = {item.value for item in found}
        return found + [item for item in of_main if item.value not in known]

    def _own_options(self, ctx: Any) -> list[str]:
        return [name for option in self.get_params(ctx) for name in getattr(option, "opts", ())]


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


def misused(error: Any) -> str:
    """One line for a command line that cannot be parsed, with what was probably meant."""
    wrong, meant = getattr(error, "option_name", ""), getattr(error, "possibilities", None)
    if not (wrong and str(error.format_message()).startswith("No such option")):
        text = str(error.format_message()).rstrip(".")
        return printable(f"error: {text}{'' if '; try ' in text else '; try optimize --help'}")
    command = getattr(error.ctx, "command", None)
    known = [name for item in getattr(command, "params", ()) for name in item.opts]
    near = nearest(wrong, known) or next(iter(meant or ()), "")
    named = getattr(command, "name", None) or MAIN
    remedy = near or f"optimize {named} --help"
    return printable(f"error: {wrong} is no option of optimize {named}; try {remedy}")


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
        write_text(json_file, as_json(facts) + "\n", "the report")
    if not quiet:
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
        render(_Output(width=width, highlight=False, soft_wrap=False))


def write_text(file: str, text: str, what: str) -> None:
    """Write a small file, or say in a line why not, and exit."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        failure = not_written(f"{what} cannot be written", error)
        errors.print(failure.line(file), markup=False)
        raise typer.Exit(failure.exit_code) from None


def draw(facts: dict[str, Any], html_file: str | None) -> None:
    """Write a report as a page to look at, where a file is named."""
    if html_file is None:
        return
    path = Path(html_file)
    try:
        report.write(facts, path)
    except BurnishError as error:
        error.file = error.file or html_file * isinstance(error, StorageError)
        raise
