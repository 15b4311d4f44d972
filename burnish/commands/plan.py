"""`optimize plan`: a model cut over several devices."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors, errors_as_lines, progress_shown, show, write_text
from burnish.driver import Request
from burnish.driver.sending import failed
from burnish.optimizer.errors import printable
from burnish.rendering.plan import render_plan
from burnish.rendering.shards import render_shards


def plan(
    model: options.Model,
    cluster: options.Cluster = None,
    devices: options.Devices = None,
    write_cluster: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as a cluster file.")
    ] = None,
    tuning: Annotated[
        str | None, typer.Option(metavar="FILE", help="Record of what was measured before.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write the stages.")
    ] = None,
    wire: options.Wire = "float32",
    objective: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="pipeline (default), throughput, or latency."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(metavar="N", help="So many copies, on devices of their own.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="So many devices compute a stage together.")
    ] = None,
    shape: options.Shape = None,
    data: options.Data = None,
    tokenizer: options.Tokenizer = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Loss that sending in fewer bits may cost.")
    ] = 0.01,
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
        request = Request(
            model, shape=options.shape_of(shape), check=not no_check, seed=seed,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
            data=data, tokenizer=tokenizer, max_drop=max_drop, tuning=tuning,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.plan_stages(
                request, cluster, output, progress, devices=devices, wire=wire,
                objective=objective, replicas=replicas, shards=shards,
            )  # fmt: skip
        if write_cluster and "cluster" in facts:
            write_text(write_cluster, facts["cluster"], "the cluster")
        render = render_plan if cluster or devices else render_shards
        show(facts, json_file, quiet, lambda console: render(console, facts))
        if missed := failed(facts, max_drop):
            errors.print(printable(f"error: {model}: {missed}"), markup=False)
            raise typer.Exit(1)
