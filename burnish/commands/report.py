"""The command that draws a report which was written as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.commands import options
from burnish.commands.terminal import draw, errors_as_lines
from burnish.optimizer.errors import StorageError, UsageError, reason_of

LARGEST = 1 << 28
"""Bytes of the largest report that is read."""


def report(
    file: Annotated[str, typer.Argument(metavar="REPORT", help="A file that --json wrote.")],
    html_file: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Default: beside it, named .html."),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Draw a report that was written as data, of the main job or of inspect."""
    with errors_as_lines(file, debug):
        target = Path(html_file) if html_file else Path(file).with_suffix(".html")
        facts = read(Path(file))
        if target.exists() and target.samefile(file):
            raise UsageError("the page would overwrite the report", hint="another --html")
        draw(facts, str(target))


def read(path: Path) -> dict[str, Any]:
    """A report that `show` wrote as data.

    Raises:
        UsageError: it is none.
        StorageError: it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"too large for a report ({path.stat().st_size:,} bytes)")
        facts = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(reason_of(error)) from None
    except (ValueError, RecursionError):
        raise UsageError("not JSON", hint="a file that --json wrote") from None
    if not isinstance(facts, dict):
        raise UsageError("JSON, but no report", hint="a file that --json wrote")
    return facts
