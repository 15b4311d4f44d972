"""`optimize plan`: a model cut over several devices."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors_as_lines, progress_shown, show
from burnish.driver import Request
from burnish.rendering.plan import render_plan


def plan(
    model: options.Model,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="FILE", help="YAML: devices, memory, rates, link.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write the stages.")
    ] = None,
    shape: options.Shape = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run the stages against the model.")
    ] = False,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Cut a model into pipeline stages for devices, and say how good the plan is."""
    with errors_as_lines(model, debug):
        request = Request(
            model, shape=options.shape_of(shape), check=not no_check, seed=seed,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.plan_stages(request, cluster, output, progress)
        show(facts, json_file, quiet, lambda console: render_plan(console, facts))
