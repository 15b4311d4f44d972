"""The command `optimize passes`: the table of contents."""

from __future__ import annotations

from burnish.commands import options
from burnish.commands.terminal import errors_as_lines, show
from burnish.passes import registry
from burnish.rendering.report import render_passes


def passes(json_file: options.Json = None) -> None:
    """List the passes, in order, with one line each."""
    with errors_as_lines("passes", debug=False):
        rows = [
            {
                "name": item.name,
                "phase": item.phase.value,
                "promise": item.promise.kind.value,
                "summary": (item.__doc__ or "").strip().splitlines()[0],
            }
            for item in registry()
        ]
        show({"passes": rows}, json_file, False, lambda console: render_passes(console, rows))
