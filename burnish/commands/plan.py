"""`optimize plan`: a model cut over several devices."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors_as_lines, progress_shown, show
from burnish.driver import Request
from burnish.optimizer.errors import UsageError
from burnish.rendering.plan import render_plan
from burnish.rendering.shards import render_shards


def plan(
    model: options.Model,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="FILE", help="YAML: devices, memory, rates, link."),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Split every layer over so many equal ranks."),
    ] = None,
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
    """Cut a model into stages for devices, or split it over ranks, and say how good that is."""
    with errors_as_lines(model, debug):
        asked_for(cluster, shards)
        request = Request(
            model, shape=options.shape_of(shape), check=not no_check, seed=seed,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.plan_stages(request, cluster, output, progress, shards=shards)
        render = render_plan if cluster else render_shards
        show(facts, json_file, quiet, lambda console: render(console, facts))


def asked_for(cluster: str | None, shards: int | None) -> None:
    """Raise where neither devices nor ranks are named."""
    if cluster is None and shards is None:
        raise UsageError("no devices are named", hint="--cluster FILE, or --shards 2")
    if cluster is not None and shards is not None:
        raise UsageError("--shards is for a model without a cluster", hint="one of the two")
