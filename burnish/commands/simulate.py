"""`optimize simulate`: what a plan would do, on devices that need not be here."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands import plan_options as asked
from burnish.commands.terminal import errors_as_lines, progress_shown, show
from burnish.driver import Request
from burnish.driver.scenario import scenario
from burnish.rendering.simulate import render_simulation


def simulate(
    model: options.Model,
    cluster: options.Cluster = None,
    devices: options.Devices = None,
    objective: asked.Objective = None,
    replicas: asked.Replicas = None,
    shards: asked.Shards = None,
    feeds: Annotated[int, typer.Option(min=2, max=1_000_000, help="That are sent.")] = 1000,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Feeds that come in a second; default: as there is room."),
    ] = None,
    straggler: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE:FACTOR", help="A stage of the first replica takes longer."),
    ] = None,
    failures: Annotated[
        str | None,
        typer.Option(metavar="MTBF,RECOVERY", help="Of each device: 50000h,5m."),
    ] = None,
    scatter: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Standard deviation of times over the mean.")
    ] = 0.0,
    wire: options.Wire = "float32",
    shape: options.Shape = None,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Forecast a plan: throughput, latency, idle devices, stragglers and failures."""
    with errors_as_lines(model, debug):
        request = Request(
            model, shape=options.shape_of(shape), seed=seed, time_limit=time_limit,
            memory_limit=options.bytes_of(memory_limit),
        )  # fmt: skip
        told = scenario(
            straggler=straggler or (), failures=failures, feeds=feeds, rate=rate, scatter=scatter,
            seed=seed,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.simulate(
                request, told, cluster, progress, devices=devices, wire=wire,
                objective=objective, replicas=replicas, shards=shards,
            )  # fmt: skip
        show(facts, json_file, quiet, lambda console: render_simulation(console, facts))
